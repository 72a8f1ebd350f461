//! Which names somebody may have meant who wrote another one.
//!
//! Owns the distance. Pure.

/// A name that is written with more slips than this, in hundredths of its length, was not meant.
const SLIPS_MAX: usize = 40;

/// At most `count` of the names, the nearest first; those that are as near in their own order.
pub fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let all = wanted.chars().count();
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .filter(|name| name.chars().count().abs_diff(all) * 100 <= all.max(3) * SLIPS_MAX)
        .map(|name| (slips(wanted, name), name))
        .filter(|(slips, _)| slips * 100 <= all.max(3) * SLIPS_MAX)
        .collect();
    found.sort_by_key(|(slips, _)| *slips);
    found.dedup();
    found.into_iter().take(count).map(|(_, name)| name).collect()
}

/// `; did you mean a or b?`, or nothing.
pub fn did_you_mean(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [most @ .., last] => format!("; did you mean {} or {last}?", most.join(", ")),
    }
}

/// How many characters must be put in, left out, replaced or swapped with their neighbour to make one name of the other; capitals count as
/// small letters.
fn slips(from: &str, to: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (from, to) = (letters(from), letters(to));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut least = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other;
            if swapped {
                least = least.min(before_last[column - 1] + 1);
            }
            next.push(least);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_in_both_directions() {
        let cases = [
            ("", "", 0),
            ("a", "", 1),
            ("orders", "order", 1),
            ("ordesr", "orders", 1),
            ("Orders", "orders", 0),
            ("abc", "xyz", 3),
        ];
        for (one, other, count) in cases {
            assert_eq!((slips(one, other), slips(other, one)), (count, count), "{one} {other}");
        }
    }

    #[test]
    fn near_names_come_nearest_first_and_far_ones_not_at_all() {
        let names = ["payments", "orders", "order", "orders-eu", "x"];
        assert_eq!(near("ordrs", names, 3), ["orders", "order"]);
        assert_eq!(near("ordrs", names, 1), ["orders"]);
        assert_eq!(near("invoices", names, 3), Vec::<&str>::new());
        assert_eq!(did_you_mean(&near("ordrs", names, 3)), "; did you mean orders or order?");
        assert_eq!(did_you_mean(&[]), "");
    }
}
