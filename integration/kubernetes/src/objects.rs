//! The objects that matter here, reduced to what matters of them.

mod slice;

pub(crate) use slice::{Slice, SlicePort, State, read_number, read_protocol};

use crate::note::{Note, ObjectRef};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The name of an object within its kind: the namespace, empty for objects of the whole cluster, and the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(kind: Kind, meta: &ObjectMeta) -> Self {
        let namespace = match kind {
            Kind::Node => String::new(),
            // What `kubectl apply` does with a file that does not say.
            Kind::Service | Kind::Slice => meta.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        };
        Self { namespace, name: meta.name.clone().unwrap_or_default() }
    }
}

/// The kinds of objects that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1`, `Service`.
    Service,
    /// `discovery.k8s.io/v1`, `EndpointSlice`.
    Slice,
    /// `v1`, `Node`.
    Node,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Service, Self::Slice, Self::Node];

    /// As Kubernetes calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node => "v1",
            Self::Slice => "discovery.k8s.io/v1",
        }
    }

    /// The object of that kind and name, to speak of it.
    pub(crate) fn object(self, key: &Key) -> ObjectRef {
        ObjectRef { kind: self.name(), namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

/// An object, reduced.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Service(Box<Service>),
    Slice(Slice),
    Node(Box<Node>),
}

impl From<Service> for Object {
    fn from(mut service: Service) -> Self {
        service.metadata.managed_fields = None;
        Self::Service(Box::new(service))
    }
}

impl From<EndpointSlice> for Object {
    fn from(slice: EndpointSlice) -> Self {
        Self::Slice(Slice::of(&slice))
    }
}

impl From<Node> for Object {
    fn from(mut node: Node) -> Self {
        node.metadata.managed_fields = None;
        // Images, conditions and capacities: most of what a node says, and that every few seconds.
        if let Some(status) = &mut node.status {
            let addresses = status.addresses.take();
            *status = k8s_openapi::api::core::v1::NodeStatus { addresses, ..Default::default() };
        }
        Self::Node(Box::new(node))
    }
}

/// What became of a value.
pub(crate) enum Read {
    Object(Key, Object),
    /// Of no kind that is read here.
    Other,
    /// Of a kind that is read, but not as it has to be.
    Refused(Note),
}

/// Reads one object.
pub(crate) fn read(value: Value) -> Read {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let known =
        Kind::ALL.into_iter().find(|known| known.name() == kind && known.api_version() == api_version);
    match known {
        None => Read::Other,
        Some(Kind::Service) => typed::<Service>(Kind::Service, value, |service| &service.metadata),
        Some(Kind::Slice) => typed::<EndpointSlice>(Kind::Slice, value, |slice| &slice.metadata),
        Some(Kind::Node) => typed::<Node>(Kind::Node, value, |node| &node.metadata),
    }
}

fn typed<T: DeserializeOwned + Into<Object>>(kind: Kind, value: Value, meta: fn(&T) -> &ObjectMeta) -> Read {
    let told = |key: &str| {
        value
            .get("metadata")
            .and_then(|meta| meta.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let object = ObjectRef { kind: kind.name(), namespace: told("namespace"), name: told("name") };
    match serde_json::from_value::<T>(value) {
        Ok(read) => {
            let key = Key::of(kind, meta(&read));
            match key.name.is_empty() {
                true => Read::Refused(Note { object, text: "left out: it has no name".to_owned() }),
                false => Read::Object(key, read.into()),
            }
        }
        Err(error) => {
            let why = crate::note::plain(&error.to_string());
            Read::Refused(Note { object, text: format!("left out: it cannot be read: {why}") })
        }
    }
}
