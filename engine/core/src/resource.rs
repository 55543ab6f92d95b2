//! Resources: what a thing is called, what it should be, and tables of them.

use serde::Serialize;
use std::any::Any;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The lower-case noun that names a kind in plans, statuses and the store.
pub type KindName = &'static str;

/// Names one resource among those of its kind, in the words of the field: `192.0.2.10:80/tcp`, `10.244.2.0/24`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key with this text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Names one resource among all, written `kind/key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ResourceId {
    /// The kind's name.
    pub kind: KindName,
    /// The name within the kind.
    pub key: Key,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

/// One difference inside a resource, as a person would say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FieldChange {
    /// What differs: `weight`, `backend 10.1.0.3:8080`.
    pub field: String,
    /// How it was; `None` if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it will be; `None` if it goes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl FieldChange {
    /// A field that changes from one text to another.
    pub fn changed(field: impl Into<String>, from: impl ToString, to: impl ToString) -> Self {
        Self { field: field.into(), from: Some(from.to_string()), to: Some(to.to_string()) }
    }

    /// What changes if a field's text does.
    pub fn between(field: impl Into<String>, from: impl ToString, to: impl ToString) -> Option<Self> {
        let (from, to) = (from.to_string(), to.to_string());
        (from != to).then(|| Self { field: field.into(), from: Some(from), to: Some(to) })
    }

    /// What differs between the texts of the same fields, in their order.
    pub fn among<const N: usize>(
        from: [(&'static str, String); N],
        to: [(&'static str, String); N],
    ) -> Vec<Self> {
        let pairs = from.into_iter().zip(to);
        pairs.filter_map(|((field, from), (_, to))| Self::between(field, from, to)).collect()
    }

    /// The field as a part that is new.
    #[must_use]
    pub fn as_new(self) -> Self {
        Self { from: None, ..self }
    }

    /// A part that is new.
    pub fn added(field: impl Into<String>, to: impl ToString) -> Self {
        Self { field: field.into(), from: None, to: Some(to.to_string()) }
    }

    /// A part that goes away.
    pub fn removed(field: impl Into<String>, from: impl ToString) -> Self {
        Self { field: field.into(), from: Some(from.to_string()), to: None }
    }
}

/// What a kind's spec type provides; [`Spec`] hides the type.
///
/// Specs are canonical: two that mean the same are equal.
pub trait Described: fmt::Debug + Serialize + Send + Sync + Sized + PartialEq + 'static {
    /// One line that says what the resource is, without its key.
    fn summary(&self) -> String;

    /// The whole line of a plan, where kind, key and summary would not read like a sentence.
    fn headline(&self) -> Option<String> {
        None
    }

    /// The parts of a resource that is created, a line each.
    fn parts(&self) -> Vec<FieldChange> {
        Vec::new()
    }

    /// What differs from `observed`, a line each; empty exactly if `self` is satisfied by it.
    fn changes(&self, observed: &Self) -> Vec<FieldChange>;

    /// What tells plans apart: the spec as JSON, without what the node decides and may change while an operator looks.
    fn identity(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether nothing has to be done when this is wanted and `observed` is there.
    ///
    /// Differs from equality only where what is wanted leaves room, such as "any mode".
    fn satisfied_by(&self, observed: &Self) -> bool {
        self == observed
    }

    /// Whether it may go without anybody having removed it, such as an address whose lease ends: that it is missing is
    /// then nobody's doing.
    fn goes_by_itself(&self) -> bool {
        false
    }
}

/// A spec with its type hidden, so that one planner serves every kind.
pub trait Spec: fmt::Debug + Send + Sync {
    /// See [`Described::summary`].
    fn summary(&self) -> String;
    /// See [`Described::headline`].
    fn headline(&self) -> Option<String>;
    /// See [`Described::parts`].
    fn parts(&self) -> Vec<FieldChange>;
    /// See [`Described::changes`]; a spec of another type is a change of everything.
    fn changes(&self, observed: &dyn Spec) -> Vec<FieldChange>;
    /// See [`Described::satisfied_by`]; a spec of another type never satisfies.
    fn satisfied_by(&self, observed: &dyn Spec) -> bool;
    /// See [`Described::goes_by_itself`].
    fn goes_by_itself(&self) -> bool;
    /// For printing.
    fn to_value(&self) -> serde_json::Value;
    /// For the store.
    fn to_json(&self) -> String;
    /// See [`Described::identity`].
    fn identity(&self) -> String;
    /// For the kind's own door.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Described> Spec for T {
    fn summary(&self) -> String {
        Described::summary(self)
    }

    fn headline(&self) -> Option<String> {
        Described::headline(self)
    }

    fn parts(&self) -> Vec<FieldChange> {
        Described::parts(self)
    }

    fn changes(&self, observed: &dyn Spec) -> Vec<FieldChange> {
        match observed.as_any().downcast_ref::<T>() {
            Some(observed) => Described::changes(self, observed),
            None => vec![FieldChange::changed("everything", observed.summary(), Described::summary(self))],
        }
    }

    fn satisfied_by(&self, observed: &dyn Spec) -> bool {
        observed.as_any().downcast_ref::<T>().is_some_and(|observed| Described::satisfied_by(self, observed))
    }

    fn goes_by_itself(&self) -> bool {
        Described::goes_by_itself(self)
    }

    fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn identity(&self) -> String {
        Described::identity(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Resources of one kind.
pub type Table = BTreeMap<Key, Arc<dyn Spec>>;

/// What the file and the facts ask for, of one kind.
#[derive(Clone, Debug, Default)]
pub struct DesiredKind {
    /// Wanted, and possible.
    pub table: Table,
    /// Wanted, but something is missing for it now (a device, a route): why. What exists of it stays as it is.
    pub held: BTreeMap<Key, String>,
    /// Not asked for now, but not to be removed either: what the next look at the node may ask for again.
    pub kept: BTreeSet<Key>,
    /// Why nothing of the kind is removed now, asked for or not: what goes by it is still to be led another way.
    pub stays: Option<String>,
    /// What an operator should know about a resource that can be had, but not whole: "backend 10.1.0.3 has no path".
    pub notes: BTreeMap<Key, String>,
    /// Those of `notes` that speak of something that is missing and may come by itself within moments.
    pub coming: BTreeSet<Key>,
    /// What has to be there before a resource is made: until then it waits. One that is there already stays.
    pub needs: BTreeMap<Key, Arc<[Need]>>,
    /// In how long something else is wanted, although nothing changes.
    pub turns_in: Option<Duration>,
}

/// What a resource stands on, of a kind that is brought up before its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// This resource.
    One(ResourceId),
    /// This resource as it is wanted: what comes from a change of it is not there before the change is made.
    AsWanted(ResourceId),
    /// Any resource of this kind.
    AnyOf(KindName),
}

/// What the file and the facts ask for, by kind; `Err` says why it cannot be known now.
#[derive(Clone, Debug, Default)]
pub struct Desired(pub BTreeMap<KindName, Result<Arc<DesiredKind>, String>>);

/// What is there, of one kind.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The resources that netd owns.
    pub owned: Table,
    /// Keys that are held by something that is not netd's, and by what. Only keys that matter need be here.
    pub foreign: BTreeMap<Key, String>,
    /// What an operator should know about a resource that is as desired: "generic mode, the driver has no native one".
    pub notes: BTreeMap<Key, String>,
}

/// An observation, or the reason why there is none. What could not be read is unknown, never empty.
#[derive(Debug)]
pub enum Reading {
    /// The kind was read whole.
    Known(Arc<Observation>),
    /// It could not be read; nothing of it is planned.
    Unknown(String),
}

/// What the node has, by kind.
#[derive(Debug, Default)]
pub struct Observed(pub BTreeMap<KindName, Reading>);
