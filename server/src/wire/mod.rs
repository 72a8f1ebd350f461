//! The Kafka wire format: the only users of `kafka-protocol`.
