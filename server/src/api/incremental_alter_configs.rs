//! IncrementalAlterConfigs (API key 44), versions 0..=1 (KIP-339).
//!
//! Owns the shapes of the operations: set, delete, and adding to and taking from a list.

use std::ops::RangeInclusive;

use node::requests::{ConfigOperation, Refusal};

use super::admin::shown;
use super::config_resources::{Asked, alter, invalid, required};
use super::context::{Api, Reply, RequestContext};
use crate::net::shown::Shown;
use crate::wire::messages::incremental_alter_configs_request::AlterableConfig;
use crate::wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

pub struct IncrementalAlterConfigs;

impl Api for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const NAME: &'static str = "IncrementalAlterConfigs";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: IncrementalAlterConfigsRequest,
    ) -> Reply<IncrementalAlterConfigsResponse> {
        let asked = request.resources.iter().map(|resource| Asked {
            kind: resource.resource_type,
            name: resource.resource_name.as_str(),
            operations: resource.configs.iter().map(operation).collect(),
            replace: false,
        });
        let results = alter(&ctx, asked.collect(), request.validate_only).await;
        let responses = request.resources.iter().zip(results).map(|(resource, result)| {
            let (code, message) = shown(&result);
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        });
        IncrementalAlterConfigsResponse::default().with_responses(responses.collect()).into()
    }
}

fn operation(config: &AlterableConfig) -> Result<ConfigOperation, Refusal> {
    let key = config.name.to_string();
    let value = || required(&config.name, config.value.as_ref());
    Ok(match config.config_operation {
        0 => ConfigOperation::Set { key, value: value()? },
        1 => ConfigOperation::Delete { key },
        2 => ConfigOperation::Append { key, value: value()? },
        3 => ConfigOperation::Subtract { key, value: value()? },
        other => return Err(invalid(format!("{other} is no operation on {}, only 0 to 3 are", Shown(&config.name)))),
    })
}
