//! The handshake: what two nodes tell each other of themselves before anything else.
//!
//! Who connects sends a `Greeting`; the other answers with a `Verdict`; who connects answers that with a verdict of its own, and sends
//! frames behind it without waiting. Each of the three is one frame whose head is the message and whose body is empty.
//! Owns the checked shapes and their encoding. Does not own who is let in (`Node::greet`).
//! Invariant: a `Hello` names a cluster or none, and its ids are whole.

use bytes::Bytes;
use model::NodeId;
use prost::Message;
use replication::metadata::Incarnation;

use super::PeerLane;
use super::wire::proto;

/// Of these messages. A node of another version is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// More addresses, or founders, than any cluster has at its birth.
const FOUNDERS_MAX: usize = 64;
/// Kafka's cluster ids have 22 characters.
const CLUSTER_ID_BYTES_MAX: usize = 64;
const ADDRESS_BYTES_MAX: usize = 512;

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// The identity of its data directory.
    pub directory: [u8; 16],
    /// `None`: it belongs to no cluster yet.
    pub cluster_id: Option<String>,
    /// The join list as given, sorted and without repetitions. Empty: none was given.
    pub join: Vec<String>,
    /// The levels of metadata that it can work at: the lowest and the highest.
    pub levels: (i16, i16),
    /// How the cluster was founded, when this node knows: it is one of the founders.
    pub founding: Option<Founding>,
    /// Where other nodes reach it: one that has no metadata yet learns it here.
    pub address: Option<String>,
}

/// The birth of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founding {
    pub cluster_id: String,
    /// The first voters, by node id. Empty: this node joined a cluster that others founded.
    pub founders: Vec<Founder>,
    /// The level of metadata that it begins with: the highest at which every node of the join list can work. Whichever founder leads
    /// first writes it down.
    pub level: i16,
}

/// A founder is one with its directory: with another it has lost what it promised, and is a new member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Founder {
    pub node: NodeId,
    pub directory: [u8; 16],
}

/// The first frame on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    pub lane: PeerLane,
    pub hello: Hello,
    /// Whom the sender means to reach.
    pub to: Option<NodeId>,
}

/// What one side says to the other's hello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Welcome(Hello),
    /// For both logs: who refused whom, why, and what to do.
    Refused(String),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    #[error("not a handshake: {0}")]
    Encoding(String),
    #[error("the other side speaks version {got} of the peer protocol, this one {PROTOCOL_VERSION}")]
    Version { got: u32 },
    #[error("the handshake lacks its {0}")]
    Missing(&'static str),
    #[error("the {field} of a handshake has {got} bytes, 16 are an id")]
    Id { field: &'static str, got: usize },
    #[error("the {field} of a handshake is out of bounds")]
    Bounds { field: &'static str },
}

impl Greeting {
    pub fn encode(&self) -> Bytes {
        let lane = match self.lane {
            PeerLane::Control => proto::Lane::Control,
            PeerLane::InSync => proto::Lane::InSync,
            PeerLane::CatchUp => proto::Lane::CatchUp,
        };
        let greeting = proto::Greeting {
            version: PROTOCOL_VERSION,
            lane: lane.into(),
            hello: Some(self.hello.to_proto()),
            to: self.to.map(|node| node.0),
        };
        greeting.encode_to_vec().into()
    }

    pub fn decode(bytes: Bytes) -> Result<Greeting, HelloError> {
        let greeting = proto::Greeting::decode(bytes).map_err(|error| HelloError::Encoding(error.to_string()))?;
        if greeting.version != PROTOCOL_VERSION {
            return Err(HelloError::Version { got: greeting.version });
        }
        let lane = match proto::Lane::try_from(greeting.lane) {
            Ok(proto::Lane::Control) => PeerLane::Control,
            Ok(proto::Lane::InSync) => PeerLane::InSync,
            Ok(proto::Lane::CatchUp) => PeerLane::CatchUp,
            Ok(proto::Lane::Unknown) | Err(_) => return Err(HelloError::Bounds { field: "lane" }),
        };
        let hello = Hello::from_proto(greeting.hello.ok_or(HelloError::Missing("hello"))?)?;
        Ok(Greeting { lane, hello, to: greeting.to.map(NodeId) })
    }
}

impl Verdict {
    pub fn encode(&self) -> Bytes {
        use proto::verdict::Kind;
        let kind = match self {
            Verdict::Welcome(hello) => Kind::Welcome(hello.to_proto()),
            Verdict::Refused(reason) => Kind::Refusal(proto::Refusal { reason: reason.clone() }),
        };
        proto::Verdict { kind: Some(kind) }.encode_to_vec().into()
    }

    pub fn decode(bytes: Bytes) -> Result<Verdict, HelloError> {
        use proto::verdict::Kind;
        let verdict = proto::Verdict::decode(bytes).map_err(|error| HelloError::Encoding(error.to_string()))?;
        match verdict.kind.ok_or(HelloError::Missing("verdict"))? {
            Kind::Welcome(hello) => Ok(Verdict::Welcome(Hello::from_proto(hello)?)),
            Kind::Refusal(refusal) => Ok(Verdict::Refused(refusal.reason)),
        }
    }
}

impl Hello {
    pub(crate) fn to_proto(&self) -> proto::Hello {
        proto::Hello {
            node: self.node.0,
            incarnation: Bytes::copy_from_slice(&self.incarnation.0),
            directory: Bytes::copy_from_slice(&self.directory),
            cluster_id: self.cluster_id.clone().unwrap_or_default(),
            join: self.join.clone(),
            level_min: i32::from(self.levels.0),
            level_max: i32::from(self.levels.1),
            founding: self.founding.as_ref().map(Founding::to_proto),
            address: self.address.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn from_proto(hello: proto::Hello) -> Result<Hello, HelloError> {
        let level = |raw: i32| i16::try_from(raw).map_err(|_| HelloError::Bounds { field: "level" });
        let join_fits = hello.join.len() <= FOUNDERS_MAX && hello.join.iter().all(|at| at.len() <= ADDRESS_BYTES_MAX);
        if !join_fits {
            return Err(HelloError::Bounds { field: "join list" });
        }
        if hello.address.len() > ADDRESS_BYTES_MAX {
            return Err(HelloError::Bounds { field: "address" });
        }
        Ok(Hello {
            node: node(hello.node)?,
            incarnation: Incarnation(id("incarnation", &hello.incarnation)?),
            directory: id("directory", &hello.directory)?,
            cluster_id: Some(cluster_id(hello.cluster_id)?).filter(|id| !id.is_empty()),
            join: hello.join,
            levels: (level(hello.level_min)?, level(hello.level_max)?),
            founding: hello.founding.map(Founding::from_proto).transpose()?,
            address: Some(hello.address).filter(|address| !address.is_empty()),
        })
    }
}

impl Founding {
    /// As it is kept on disk.
    pub(crate) fn encode(&self) -> Bytes {
        self.to_proto().encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Founding, HelloError> {
        let founding = proto::Founding::decode(bytes).map_err(|error| HelloError::Encoding(error.to_string()))?;
        Founding::from_proto(founding)
    }

    fn to_proto(&self) -> proto::Founding {
        let founder = |founder: &Founder| proto::Founder {
            node: founder.node.0,
            directory: Bytes::copy_from_slice(&founder.directory),
        };
        let founders = self.founders.iter().map(founder).collect();
        proto::Founding { cluster_id: self.cluster_id.clone(), founders, level: i32::from(self.level) }
    }

    fn from_proto(founding: proto::Founding) -> Result<Founding, HelloError> {
        if founding.founders.len() > FOUNDERS_MAX || founding.cluster_id.is_empty() {
            return Err(HelloError::Bounds { field: "founding" });
        }
        let founder = |founder: proto::Founder| {
            Ok(Founder { node: node(founder.node)?, directory: id("directory", &founder.directory)? })
        };
        Ok(Founding {
            cluster_id: cluster_id(founding.cluster_id)?,
            founders: founding.founders.into_iter().map(founder).collect::<Result<_, HelloError>>()?,
            // A version that does not say so knows the first level for certain.
            level: i16::try_from(founding.level).map_err(|_| HelloError::Bounds { field: "level" })?.max(1),
        })
    }
}

fn node(raw: i32) -> Result<NodeId, HelloError> {
    if raw < 0 { Err(HelloError::Bounds { field: "node id" }) } else { Ok(NodeId(raw)) }
}

fn id(field: &'static str, bytes: &Bytes) -> Result<[u8; 16], HelloError> {
    bytes[..].try_into().map_err(|_| HelloError::Id { field, got: bytes.len() })
}

fn cluster_id(text: String) -> Result<String, HelloError> {
    let fits = text.len() <= CLUSTER_ID_BYTES_MAX && text.chars().all(|sign| sign.is_ascii_graphic());
    if fits { Ok(text) } else { Err(HelloError::Bounds { field: "cluster id" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cluster: Option<&str>) -> Hello {
        Hello {
            node: NodeId(3),
            incarnation: Incarnation([5; 16]),
            directory: [6; 16],
            cluster_id: cluster.map(str::to_owned),
            join: vec!["a:1".to_owned(), "b:2".to_owned()],
            levels: (1, 2),
            founding: cluster.map(|id| Founding {
                cluster_id: id.to_owned(),
                founders: vec![Founder { node: NodeId(1), directory: [1; 16] }],
                level: 2,
            }),
            address: cluster.map(|_| "h:3".to_owned()),
        }
    }

    #[test]
    fn a_greeting_comes_back_as_it_was_sent() {
        for (lane, to) in [(PeerLane::Control, None), (PeerLane::InSync, Some(NodeId(2))), (PeerLane::CatchUp, None)] {
            let greeting = Greeting { lane, hello: hello(None), to };
            assert_eq!(Greeting::decode(greeting.encode()), Ok(greeting));
        }
    }

    #[test]
    fn a_verdict_comes_back_as_it_was_sent() {
        for verdict in [Verdict::Welcome(hello(Some("c"))), Verdict::Refused("no".to_owned())] {
            assert_eq!(Verdict::decode(verdict.encode()), Ok(verdict));
        }
    }

    #[test]
    fn another_version_of_the_protocol_is_refused() {
        let greeting = proto::Greeting { version: 2, lane: 1, hello: Some(hello(None).to_proto()), to: None };
        let decoded = Greeting::decode(greeting.encode_to_vec().into());
        assert_eq!(decoded, Err(HelloError::Version { got: 2 }));
    }

    #[test]
    fn fields_out_of_bounds_are_refused() {
        let changed = |change: fn(&mut proto::Hello)| {
            let mut raw = hello(Some("c")).to_proto();
            change(&mut raw);
            Hello::from_proto(raw)
        };
        assert!(changed(|raw| raw.node = -1).is_err());
        assert!(changed(|raw| raw.incarnation = Bytes::from_static(b"short")).is_err());
        assert!(changed(|raw| raw.directory = Bytes::new()).is_err());
        assert!(changed(|raw| raw.cluster_id = "x".repeat(65)).is_err());
        assert!(changed(|raw| raw.cluster_id = "a\nb".to_owned()).is_err());
        assert!(changed(|raw| raw.join = vec![String::new(); 65]).is_err());
        assert!(changed(|raw| raw.level_max = 70_000).is_err());
        assert!(changed(|_| {}).is_ok());
    }

    #[test]
    fn noise_is_an_error() {
        for noise in [&[0xff; 40][..], b"GET / HTTP/1.1", &[]] {
            assert!(Greeting::decode(Bytes::copy_from_slice(noise)).is_err());
            assert!(Verdict::decode(Bytes::copy_from_slice(noise)).is_err());
        }
    }
}
