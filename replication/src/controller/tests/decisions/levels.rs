//! UpdateFeatures: what may be raised, what may be lowered, and what the refusals say.

use super::*;

fn update(feature: &str, level: i16, change: LevelChange) -> ControllerRequest {
    let updates = vec![FeatureUpdate { name: feature.into(), level, change }];
    ControllerRequest::UpdateFeatures { updates, validate_only: false }
}

const ELR: &str = "eligible.leader.replicas.version";

#[test]
fn levels_move_within_what_every_node_can_work_at() {
    use LevelChange::{SafeDowngrade, UnsafeDowngrade, Upgrade};
    // Feature, level, how; the level that holds then, or a part of the refusal.
    let table = [
        ("metadata.version", 30, Upgrade, Ok(30)),
        ("metadata.version", 29, SafeDowngrade, Ok(29)),
        ("metadata.version", 25, UnsafeDowngrade, Ok(25)),
        ("metadata.version", 29, Upgrade, Err("without setting the upgrade type")),
        ("metadata.version", 31, Upgrade, Err("only supports versions 25-30")),
        ("metadata.version", 0, SafeDowngrade, Err("only supports versions 25-30")),
        ("metadata.version", -1, Upgrade, Err("cannot be less than 0")),
        (ELR, 0, SafeDowngrade, Ok(0)),
        (ELR, 1, SafeDowngrade, Ok(1)),
        ("weir.metadata", 1, UnsafeDowngrade, Err("cannot be downgraded")),
        ("weir.metadata", 3, Upgrade, Err("only supports versions 1-2")),
        ("group.version", 0, SafeDowngrade, Ok(0)),
        ("group.version", 2, Upgrade, Err("only supports versions 0-1")),
        ("share.version", 1, Upgrade, Err("does not support this feature")),
        ("", 1, Upgrade, Err("can not be empty")),
    ];
    for (feature, level, change, expected) in table {
        let mut world = World::new(2);
        match (world.ask(&update(feature, level, change)), expected) {
            (Ok(ControllerAnswer::FeaturesUpdated(answers)), Ok(level)) => {
                assert_eq!(answers, [Ok(())]);
                assert_eq!(world.image.features().get(feature).copied().unwrap_or(0), level, "{feature}");
            }
            (Ok(ControllerAnswer::FeaturesUpdated(answers)), Err(part)) => {
                let refusal = answers.into_iter().next().and_then(Result::err).expect("it is refused");
                assert_eq!(refusal.code, ErrorCode::InvalidUpdateVersion);
                let begin = format!("Invalid update version {level} for feature {feature}. ");
                assert!(refusal.message.starts_with(&begin) && refusal.message.contains(part), "{}", refusal.message);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_level_is_not_finalised_while_a_registered_node_cannot_work_at_it() {
    let mut world = World::new(2);
    world.apply(&[vec![Fact::FeatureLevelSet { name: "weir.metadata".into(), level: 1 }]]);
    let mut old = World::info(3);
    old.features.insert("weir.metadata".into(), (1, 1));
    assert_eq!(
        world.refused(&ControllerRequest::Register { node: NodeId(3), info: old, clean: true, lost: BTreeSet::new() }),
        None
    );
    let raise = update("weir.metadata", 2, LevelChange::Upgrade);
    assert_eq!(world.refused(&raise), Some(ErrorCode::InvalidUpdateVersion));
    // It counts while it is down: it may come back as it was.
    world.fence(3);
    assert_eq!(world.refused(&raise), Some(ErrorCode::InvalidUpdateVersion));
    let new = NodeInfo { incarnation: incarnation(33), ..World::info(3) };
    assert_eq!(
        world.refused(&ControllerRequest::Register { node: NodeId(3), info: new, clean: true, lost: BTreeSet::new() }),
        None
    );
    assert_eq!(world.refused(&raise), None);
    assert_eq!(world.image.level(), 2);
}

#[test]
fn all_updates_hold_or_none() {
    let mut world = World::new(1);
    let one = |name: &str, level| FeatureUpdate { name: name.into(), level, change: LevelChange::SafeDowngrade };
    let updates = vec![one(ELR, 0), one("metadata.version", 31)];
    let answer = world.ask(&ControllerRequest::UpdateFeatures { updates, validate_only: false });
    let Ok(ControllerAnswer::FeaturesUpdated(answers)) = answer else { panic!("it is answered") };
    assert!(answers.len() == 2 && answers.iter().all(Result::is_err));
    assert_eq!(world.image.features().get(ELR), Some(&1));
    let epoch = world.image.features_epoch();
    let validated = ControllerRequest::UpdateFeatures { updates: vec![one(ELR, 0)], validate_only: true };
    assert_eq!((world.refused(&validated), world.image.features_epoch()), (None, epoch));
}
