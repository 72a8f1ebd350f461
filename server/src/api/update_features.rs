//! UpdateFeatures (API key 57), versions 0..=2.
//!
//! Owns the shapes. Does not own which levels may hold: the controller decides.
//! Versions: 0 has a flag for downgrades, 1 kinds of changes and a dry run (KIP-778), 2 no results for single features:
//! all hold, or none (KIP-1022).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::ErrorCode;
use node::requests::{ControllerAnswer, ControllerRequest, FeatureUpdate, LevelChange, Refusal};

use super::admin::{shown, unexpected, wait};
use super::context::{Api, Reply, RequestContext};
use crate::wire::messages::update_features_request::FeatureUpdateKey;
use crate::wire::messages::update_features_response::UpdatableFeatureResult;
use crate::wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

pub struct UpdateFeatures;

impl Api for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const NAME: &'static str = "UpdateFeatures";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: UpdateFeaturesRequest) -> Reply<UpdateFeaturesResponse> {
        let validate_only = ctx.version >= 1 && request.validate_only;
        let updates = updates(ctx.version, &request.feature_updates);
        let results = match updates {
            Ok(updates) => update(&ctx, updates, validate_only, request.timeout_ms).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = UpdateFeaturesResponse::default().with_error_message(None);
        let results = match results {
            Ok(results) => results,
            Err(refusal) => {
                (response.error_code, response.error_message) = shown(&Err::<(), _>(refusal));
                return response.into();
            }
        };
        let named = request.feature_updates.iter().zip(&results);
        if ctx.version >= 2 {
            // The first refusal stands for all.
            if let Some((feature, Err(refusal))) = named.clone().find(|(_, result)| result.is_err()) {
                response.error_code = refusal.code.to_wire();
                let message = format!("feature {}: {refusal}", crate::net::shown::Shown(&feature.feature));
                response.error_message = Some(super::topics::text(&message));
            }
            return response.into();
        }
        let results = named.map(|(feature, result)| {
            let (code, message) = shown(result);
            UpdatableFeatureResult::default()
                .with_feature(feature.feature.clone())
                .with_error_code(code)
                .with_error_message(message)
        });
        response.with_results(results.collect()).into()
    }
}

fn updates(version: i16, asked: &[FeatureUpdateKey]) -> Result<Vec<FeatureUpdate>, Refusal> {
    let refuse = |message: String| Refusal::new(ErrorCode::InvalidRequest, message);
    let mut names = BTreeSet::new();
    let one = |asked: &FeatureUpdateKey| {
        let shown = crate::net::shown::Shown(&asked.feature);
        if !names.insert(asked.feature.clone()) {
            return Err(refuse(format!("feature {shown} is named more than once")));
        }
        let change = match (version, asked.upgrade_type, asked.allow_downgrade) {
            (0, _, false) | (1.., 1, _) => LevelChange::Upgrade,
            (0, _, true) | (1.., 2, _) => LevelChange::SafeDowngrade,
            (1.., 3, _) => LevelChange::UnsafeDowngrade,
            (_, other, _) => {
                return Err(refuse(format!("{other} is no kind of change for feature {shown}, only 1, 2 and 3 are")));
            }
        };
        Ok(FeatureUpdate { name: asked.feature.to_string(), level: asked.max_version_level, change })
    };
    asked.iter().map(one).collect()
}

async fn update(
    ctx: &RequestContext,
    updates: Vec<FeatureUpdate>,
    validate_only: bool,
    timeout_ms: i32,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let request = ControllerRequest::UpdateFeatures { updates, validate_only };
    match ctx.controller(request, wait(timeout_ms)).await? {
        ControllerAnswer::FeaturesUpdated(results) => Ok(results),
        other => Err(unexpected(&other)),
    }
}
