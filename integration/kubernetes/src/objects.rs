//! The objects that matter here, reduced to what matters of them.

mod policy;
mod slice;

pub(crate) use policy::{Chosen, Gateways, Labels, Pod, Policy};
pub(crate) use slice::{Slice, SlicePort, State, read_number, read_protocol};

use crate::note::{Note, ObjectRef, plain};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod as GivenPod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
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
            Kind::Node | Kind::Namespace | Kind::GatewayPolicy | Kind::NatPolicy => String::new(),
            // What `kubectl apply` does with a file that does not say.
            Kind::Service | Kind::Slice | Kind::Pod => {
                meta.namespace.clone().unwrap_or_else(|| "default".to_owned())
            }
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
    /// `v1`, `Namespace`.
    Namespace,
    /// `v1`, `Pod`.
    Pod,
    /// `cilium.io/v2`, `CiliumEgressGatewayPolicy`.
    GatewayPolicy,
    /// `cilium.io/v2alpha1`, `CiliumEgressNATPolicy`.
    NatPolicy,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Service,
        Self::Slice,
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::GatewayPolicy,
        Self::NatPolicy,
    ];

    /// The kind that Kubernetes calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// As Kubernetes calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::GatewayPolicy => "CiliumEgressGatewayPolicy",
            Self::NatPolicy => "CiliumEgressNATPolicy",
        }
    }

    /// As the paths of the API call it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Slice => "endpointslices",
            Self::Node => "nodes",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::GatewayPolicy => "ciliumegressgatewaypolicies",
            Self::NatPolicy => "ciliumegressnatpolicies",
        }
    }

    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node | Self::Namespace | Self::Pod => "v1",
            Self::GatewayPolicy => "cilium.io/v2",
            Self::NatPolicy => "cilium.io/v2alpha1",
            Self::Slice => "discovery.k8s.io/v1",
        }
    }

    /// As its definition is called, where it is no kind of Kubernetes itself: `ciliumegressnatpolicies.cilium.io`.
    pub(crate) fn resource(self) -> String {
        let group = self.api_version().split_once('/').map(|(group, _)| group).unwrap_or_default();
        format!("{}.{group}", self.plural())
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
    Namespace(Labels),
    Pod(Pod),
    Policy(Kind, Box<Policy>),
    /// An egress policy that cannot be one here, and why.
    Refused(Kind, String),
}

impl From<Namespace> for Object {
    fn from(namespace: Namespace) -> Self {
        Self::Namespace(namespace.metadata.labels.unwrap_or_default())
    }
}

impl From<GivenPod> for Object {
    fn from(pod: GivenPod) -> Self {
        Self::Pod(Pod::of(&pod))
    }
}

impl From<Service> for Object {
    fn from(mut service: Service) -> Self {
        strip(&mut service.metadata);
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
        strip(&mut node.metadata);
        // Images, conditions and capacities: most of what a node says, and that every few seconds.
        if let Some(status) = &mut node.status {
            let addresses = status.addresses.take();
            *status = k8s_openapi::api::core::v1::NodeStatus { addresses, ..Default::default() };
        }
        Self::Node(Box::new(node))
    }
}

/// Takes out what changes with every change of anything, and who made it: two objects that differ by nothing else are the
/// same one here.
fn strip(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.resource_version = None;
    meta.generation = None;
}

impl Object {
    /// An egress policy, as it is written.
    pub(crate) fn policy(kind: Kind, given: DynamicObject) -> Self {
        match Policy::of(given) {
            Ok(policy) => Self::Policy(kind, Box::new(policy)),
            Err(why) => Self::Refused(kind, format!("left out: {why}")),
        }
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
        Some(Kind::Namespace) => typed::<Namespace>(Kind::Namespace, value, |namespace| &namespace.metadata),
        Some(Kind::Pod) => typed::<GivenPod>(Kind::Pod, value, |pod| &pod.metadata),
        Some(kind @ (Kind::GatewayPolicy | Kind::NatPolicy)) => read_as::<DynamicObject>(
            kind,
            value,
            |given| &given.metadata,
            |given| Object::policy(kind, given),
        ),
    }
}

fn typed<T: DeserializeOwned + Into<Object>>(kind: Kind, value: Value, meta: fn(&T) -> &ObjectMeta) -> Read {
    read_as::<T>(kind, value, meta, Into::into)
}

fn read_as<T: DeserializeOwned>(
    kind: Kind,
    value: Value,
    meta: fn(&T) -> &ObjectMeta,
    reduce: impl FnOnce(T) -> Object,
) -> Read {
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
                false => Read::Object(key, reduce(read)),
            }
        }
        Err(error) => {
            let why = plain(&error.to_string());
            Read::Refused(Note { object, text: format!("left out: it cannot be read: {why}") })
        }
    }
}
