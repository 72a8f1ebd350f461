//! What holds of a node's settings that nobody gives.
//!
//! Owns the defaults of Weir's own settings in words. Kafka's are in `replication::metadata::broker_config`.

use replication::metadata::broker_config::BrokerKey;
use replication::metadata::topic_keys;

use super::checked::{HTTP_DEFAULT, LISTEN_DEFAULT};

/// `None`: nothing is set unless somebody sets it.
pub fn of_node(key: &str) -> Option<String> {
    let own = match key {
        "http" => HTTP_DEFAULT,
        "listen" => LISTEN_DEFAULT,
        "memory.bytes" => "a quarter of the memory",
        "data.dir" => "weir/ in the user's state directory",
        "node.id" | "broker.id" => "1",
        _ => {
            let stands_in = |topic: &&topic_keys::TopicKey| {
                topic.synonyms.first().is_some_and(|synonym| synonym.name == key && synonym.times == 1)
            };
            // Where the defaults of Weir's topics depart from Kafka's.
            let of_topic = topic_keys::KEYS.iter().find(stands_in).map(|topic| topic.default);
            let of_kafka = BrokerKey::find(key).and_then(|known| known.default);
            return of_kafka.and(of_topic).or(of_kafka).map(str::to_owned);
        }
    };
    Some(own.to_owned())
}
