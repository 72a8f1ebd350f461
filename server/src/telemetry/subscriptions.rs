//! Which metrics a client is to push: what all subscriptions that match it want, together.
//!
//! Owns the compiled subscriptions and what is known of a client. Does not own their syntax (`metadata::client_metrics`).
//! Invariants: equal subscriptions and equal ids of clients give equal ids of subscriptions, on every node: a client may ask one and push
//! to another; a subscription is compiled when it has changed, and not when another has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use model::batch::crc32c;
use replication::metadata::Image;
use replication::metadata::client_metrics::{ALL_METRICS, Attribute, INTERVAL_MS_DEFAULT, Subscription};

use super::{InstanceId, Wanted};

/// Bytes that are kept of each: a client may call itself what it likes.
const NAME_BYTES_MAX: usize = 256;

/// What is known of a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    pub client_id: String,
    pub software_name: Option<String>,
    pub software_version: Option<String>,
    pub address: String,
    pub port: u16,
}

impl About {
    /// No name longer than is kept.
    pub(super) fn cut(mut self) -> About {
        let cut = |name: &mut String| name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        cut(&mut self.client_id);
        self.software_name.iter_mut().chain(&mut self.software_version).for_each(cut);
        self
    }
}

/// All subscriptions of an image, compiled.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    image: Weak<Image>,
    by_name: BTreeMap<String, Held>,
    /// Grows with each change.
    pub version: u64,
}

#[derive(Debug)]
struct Held {
    values: BTreeMap<String, String>,
    /// What another version accepted and this one cannot read is about no client.
    compiled: Option<Subscription>,
}

impl Held {
    fn new(values: &BTreeMap<String, String>) -> Held {
        Held { values: values.clone(), compiled: Subscription::new(values).ok() }
    }
}

impl Subscriptions {
    /// Takes over what holds in the image.
    pub fn follow(&mut self, image: &Arc<Image>) {
        if std::ptr::eq(self.image.as_ptr(), Arc::as_ptr(image)) {
            return;
        }
        self.image = Arc::downgrade(image);
        let held = self.by_name.iter().map(|(name, held)| (name.as_str(), &held.values));
        if image.client_metrics().eq(held) {
            return;
        }
        let mut before = std::mem::take(&mut self.by_name);
        let held = |(name, values): (&str, &BTreeMap<String, String>)| {
            let same = before.remove(name).filter(|held| held.values == *values);
            (name.to_owned(), same.unwrap_or_else(|| Held::new(values)))
        };
        self.by_name = image.client_metrics().map(held).collect();
        self.version += 1;
    }

    pub fn wanted(&self, instance: InstanceId, about: &About) -> Wanted {
        let (id, port) = (model::ids::base64(&instance), about.port.to_string());
        let told = |attribute| match attribute {
            Attribute::InstanceId => Some(id.as_str()),
            Attribute::ClientId => Some(about.client_id.as_str()),
            Attribute::SoftwareName => about.software_name.as_deref(),
            Attribute::SoftwareVersion => about.software_version.as_deref(),
            Attribute::SourceAddress => Some(about.address.as_str()),
            Attribute::SourcePort => Some(port.as_str()),
        };
        let (mut metrics, mut interval_ms) = (BTreeSet::new(), INTERVAL_MS_DEFAULT);
        let compiled = self.by_name.values().filter_map(|held| held.compiled.as_ref());
        for subscription in compiled.filter(|subscription| subscription.matches(told)) {
            metrics.extend(subscription.metrics.iter().map(String::as_str));
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
        if metrics.contains(ALL_METRICS) {
            metrics = BTreeSet::from([ALL_METRICS]);
        }
        let metrics: Arc<[String]> = metrics.into_iter().map(str::to_owned).collect();
        Wanted { subscription_id: subscription_id(&metrics, interval_ms, instance), metrics, interval_ms }
    }
}

/// As the KIP has it: CRC-32C of what is wanted, XOR the client's id.
fn subscription_id(metrics: &[String], interval_ms: i32, instance: InstanceId) -> i32 {
    let wanted = format!("{}\n{interval_ms}", metrics.join("\n"));
    let (words, _) = instance.as_chunks::<4>();
    let folded = words.iter().fold(crc32c(wanted.as_bytes()), |folded, word| folded ^ u32::from_be_bytes(*word));
    folded.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::tests::subscribed;
    use super::*;

    #[test]
    fn a_subscription_is_compiled_when_it_has_changed_and_not_when_another_has() {
        let mut subscriptions = Subscriptions::default();
        let at = |subscriptions: &Subscriptions, name: &str| {
            let compiled = subscriptions.by_name[name].compiled.as_ref();
            compiled.expect("it can be read").metrics.as_ptr()
        };
        subscriptions.follow(&subscribed(&[("stays", "metrics", "a."), ("changes", "metrics", "b.")]));
        let stays = at(&subscriptions, "stays");
        subscriptions.follow(&subscribed(&[
            ("stays", "metrics", "a."),
            ("changes", "metrics", "c."),
            ("new", "metrics", "d."),
        ]));
        assert_eq!((at(&subscriptions, "stays"), subscriptions.version), (stays, 2));
        let wanted = subscriptions.wanted([7; 16], &About::default());
        assert_eq!(&*wanted.metrics, ["a.", "c.", "d."]);
        subscriptions.follow(&subscribed(&[("changes", "metrics", "c.")]));
        assert_eq!(&*subscriptions.wanted([7; 16], &About::default()).metrics, ["c."]);
    }
}
