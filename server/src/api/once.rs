//! What a request names more than once is answered once.
//!
//! Owns that rule, for requests where one name of a few bytes brings an answer of any size. So an answer is as large as what there is to
//! tell, and not as that times the elements of a request.

use std::collections::BTreeSet;

/// The first of those that have the same key, in their order.
pub fn once<'a, T, K: Ord + 'a>(items: &'a [T], key: impl Fn(&'a T) -> K + 'a) -> impl Iterator<Item = &'a T> {
    let mut seen = BTreeSet::new();
    items.iter().filter(move |item| seen.insert(key(item)))
}

#[cfg(test)]
mod tests {
    use super::once;

    #[test]
    fn the_first_of_those_with_the_same_key_counts() {
        let found: Vec<_> = once(&["a1", "b1", "a2", "c1", "b2"], |word| word.as_bytes()[0]).collect();
        assert_eq!(found, [&"a1", &"b1", &"c1"]);
    }
}
