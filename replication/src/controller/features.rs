//! Feature levels: what this version can work at, what a cluster begins with, and UpdateFeatures.
//!
//! Owns the table and the refusals, in Kafka's words. Does not own what a level means: whoever writes something newer asks for it.
//! Invariants: a level is finalised only where every registered node can work at it; a node that cannot work at a finalised level is
//! not registered (`nodes::register_checked`). A version that is not finalised may be taken back to the older one, node by node; the
//! level of the metadata, once finalised, is not lowered, since the log holds what an older version cannot read.

use std::collections::BTreeMap;

use model::ErrorCode;

use super::requests::{FeatureUpdate, LevelChange, Refusal};
use super::topics::Decided;
use crate::metadata::record::{LEVEL, LEVEL_FEATURE};
use crate::metadata::{Fact, Image};

/// A feature that Kafka's clients and tools know, and what Weir does at its levels.
struct Feature {
    name: &'static str,
    min: i16,
    max: i16,
    /// What a new cluster begins with; 0: without it.
    founding: i16,
}

/// Kafka's name for what decides whether groups may use the consumer protocol.
pub const GROUP_VERSION: &str = "group.version";

const FEATURES: &[Feature] = &[
    // KIP-966: the ELR is kept and shown whatever the level says; a cluster without it is one that an older version founded.
    Feature { name: "eligible.leader.replicas.version", min: 0, max: 1, founding: 1 },
    // KIP-848. Off: nobody may use the consumer protocol, since some node does not know it.
    Feature { name: GROUP_VERSION, min: 0, max: 1, founding: 1 },
    // 4.0-IV3 to 4.3-IV0. Weir's own formats follow `weir.metadata`; tools want to see and set this one. No higher than what the newest
    // published tools have a name for: of others they say UNKNOWN. No client asks for a level of it.
    Feature { name: "metadata.version", min: 25, max: 30, founding: 30 },
];

/// For the registration of a node: the lowest and highest level of each feature that this version can work at.
pub fn supported() -> BTreeMap<String, (i16, i16)> {
    supported_up_to(LEVEL)
}

/// As `supported`, of a node that works at this level of metadata at most.
pub fn supported_up_to(metadata_level: u32) -> BTreeMap<String, (i16, i16)> {
    let highest = i16::try_from(metadata_level.clamp(1, LEVEL)).expect("levels are small");
    let own = (LEVEL_FEATURE.to_owned(), (1, highest));
    let table = FEATURES.iter().map(|feature| (feature.name.to_owned(), (feature.min, feature.max)));
    table.chain([own]).collect()
}

/// Beside the level of the metadata.
pub(super) fn founding() -> impl Iterator<Item = Fact> {
    let begun = FEATURES.iter().filter(|feature| feature.founding > 0);
    begun.map(|feature| Fact::FeatureLevelSet { name: feature.name.to_owned(), level: feature.founding })
}

/// All hold, or none: then each answer says why the first one did not.
pub fn update(image: &Image, updates: &[FeatureUpdate]) -> Decided<()> {
    let mut facts = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for wanted in updates {
        let result = match seen.insert(&wanted.name) {
            true => update_one(image, wanted),
            false => {
                Err(Refusal::new(ErrorCode::InvalidRequest, format!("The feature {} is named twice.", wanted.name)))
            }
        };
        match result {
            Ok(fact) => facts.extend(fact),
            Err(refusal) => return Decided { facts: Vec::new(), answers: vec![Err(refusal); updates.len()] },
        }
    }
    Decided { facts: vec![facts], answers: vec![Ok(()); updates.len()] }
}

fn update_one(image: &Image, wanted: &FeatureUpdate) -> Result<Option<Fact>, Refusal> {
    let FeatureUpdate { name, level, change } = wanted;
    let refuse = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
    };
    if name.is_empty() {
        return refuse("Feature name can not be empty.".to_owned());
    }
    if *level < 0 {
        return refuse("A feature version cannot be less than 0.".to_owned());
    }
    let own = supported();
    let Some((min, max)) = own.get(name) else {
        return refuse("The controller does not support this feature.".to_owned());
    };
    if *level != 0 && !(*min..=*max).contains(level) || *level == 0 && *min > 0 {
        return refuse(format!("The controller only supports versions {min}-{max}"));
    }
    for (node, info) in image.nodes() {
        let (min, max) = info.features.get(name).copied().unwrap_or((0, 0));
        match (min, max) {
            _ if (min..=max).contains(level) || *level == 0 && min <= 0 => {}
            (0, 0) => return refuse(format!("Broker {node} does not support this feature.")),
            _ => return refuse(format!("Broker {node} only supports versions {min}-{max}")),
        }
    }
    let now = image.features().get(name).copied().unwrap_or(0);
    match (level.cmp(&now), change) {
        (std::cmp::Ordering::Equal, _) => return Ok(None),
        (std::cmp::Ordering::Less, LevelChange::Upgrade) => {
            return refuse(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
                 downgrade."
                    .to_owned(),
            );
        }
        (std::cmp::Ordering::Less, _) if name == LEVEL_FEATURE => {
            return refuse("The metadata log holds what lower levels cannot read: it cannot be downgraded.".to_owned());
        }
        (std::cmp::Ordering::Greater, LevelChange::SafeDowngrade | LevelChange::UnsafeDowngrade) => {
            return refuse("Can't downgrade to a newer version.".to_owned());
        }
        _ => {}
    }
    Ok(Some(Fact::FeatureLevelSet { name: name.clone(), level: *level }))
}
