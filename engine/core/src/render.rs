//! A plan as a person reads it, and as a program does.

use crate::brake::Brake;
use crate::plan::{Action, Plan, Remark, Step};
use crate::resource::FieldChange;
use serde_json::{Value, json};
use std::fmt::Write;

/// Whether the text carries terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI escapes.
    Always,
}

/// How much of a plan is shown before the rest is only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps.
    pub steps: usize,
    /// Lines inside a step.
    pub fields: usize,
}

impl Limits {
    /// Everything.
    pub const NONE: Self = Self { steps: usize::MAX, fields: usize::MAX };
    /// What fits a few screens.
    pub const SCREEN: Self = Self { steps: 200, fields: 40 };
}

struct Paint(Colour);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            Colour::Never => text.to_owned(),
            Colour::Always => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}

/// The plan as text, a blank line before the summary.
#[must_use]
pub fn text(plan: &Plan, brakes: &[Brake], colour: Colour, limits: Limits) -> String {
    let paint = Paint(colour);
    let mut out = String::new();
    for remark in plan.remarks.iter().take(limits.steps) {
        let _ = writeln!(out, "  {}", remark_line(remark, &paint));
    }
    if plan.remarks.len() > limits.steps {
        let _ = writeln!(out, "  … and {} more of them", plan.remarks.len() - limits.steps);
    }
    for step in plan.steps.iter().take(limits.steps) {
        write_step(&mut out, step, &paint, limits.fields);
    }
    if plan.steps.len() > limits.steps {
        let _ = writeln!(out, "  … and {} more changes", plan.steps.len() - limits.steps);
    }
    for conflict in &plan.conflicts {
        let line = format!(
            "! {} is held by {}; it is left alone",
            escape(&conflict.id.to_string()),
            escape(&conflict.holder)
        );
        let _ = writeln!(out, "  {}", paint.red(&line));
    }
    for held in plan.held.iter().take(limits.steps) {
        let line = format!("… {} waits: {}", escape(&held.id.to_string()), escape(&held.reason));
        let _ = writeln!(out, "  {}", paint.yellow(&line));
    }
    for unread in &plan.unread {
        let line = format!("? {}: nothing is planned: {}", unread.kind, escape(&unread.reason));
        let _ = writeln!(out, "  {}", paint.yellow(&line));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{}", paint.bold(&summary(plan)));
    for brake in brakes {
        let _ = writeln!(out, "{}", paint.red(&format!("Held back: {brake}.")));
    }
    out
}

/// The summary line of a plan.
#[must_use]
pub fn summary(plan: &Plan) -> String {
    if plan.is_empty() {
        let waiting = plan.held.len() + plan.conflicts.len() + plan.unread.len();
        return match waiting {
            0 => "Nothing to do: the node is as the file says.".into(),
            _ => format!("Nothing to do now; {waiting} waiting, in conflict or unread."),
        };
    }
    let (create, update, delete) = plan.counts();
    format!("Plan {}: {create} to create, {update} to update, {delete} to delete.", plan.id())
}

fn remark_line(remark: &Remark, paint: &Paint) -> String {
    let head = paint.bold(&format!("{} {}", remark.id.kind, escape(remark.id.key.as_str())));
    let sign = match (&remark.from, &remark.to) {
        (None, _) => paint.green("+"),
        (Some(_), Some(_)) => paint.yellow("~"),
        (Some(_), None) => paint.red("-"),
    };
    format!("{sign} {head}  {}", escape(&remark.text))
}

fn write_step(out: &mut String, step: &Step, paint: &Paint, fields_max: usize) {
    let spec = step.action.spec();
    let (head, summary) = match spec.headline() {
        Some(headline) => (escape(&headline), String::new()),
        None => (format!("{} {}", step.id.kind, escape(step.id.key.as_str())), escape(&spec.summary())),
    };
    let line = match step.action {
        Action::Create { .. } => format!("{} {}", paint.green("+"), paint.bold(&head)),
        Action::Update { .. } => format!("{} {}", paint.yellow("~"), paint.bold(&head)),
        Action::Delete { .. } => format!("{} {}", paint.red("-"), paint.bold(&head)),
    };
    let _ = match summary.is_empty() {
        true => writeln!(out, "  {line}"),
        false => writeln!(out, "  {line}  {summary}"),
    };
    let fields = step.action.fields();
    for field in fields.iter().take(fields_max) {
        let _ = writeln!(out, "      {}", field_line(field, paint));
    }
    if fields.len() > fields_max {
        let _ = writeln!(out, "      … and {} more", fields.len() - fields_max);
    }
}

fn field_line(field: &FieldChange, paint: &Paint) -> String {
    let name = escape(&field.field);
    let glue = |text: &str| if text.is_empty() { String::new() } else { format!(" {}", escape(text)) };
    match (&field.from, &field.to) {
        (None, Some(to)) => paint.green(&format!("+ {name}{}", glue(to))),
        (Some(from), None) => paint.red(&format!("- {name}{}", glue(from))),
        (Some(from), Some(to)) => paint.yellow(&format!("~ {name}: {} → {}", escape(from), escape(to))),
        (None, None) => name,
    }
}

/// Makes control characters visible: names come from a file that anybody may have written.
#[must_use]
pub fn escape(text: &str) -> String {
    if text.chars().all(|c| !c.is_control()) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// The plan as JSON: always whole.
#[must_use]
pub fn json(plan: &Plan, brakes: &[Brake]) -> Value {
    let (create, update, delete) = plan.counts();
    json!({
        "id": plan.id(),
        "changes": { "create": create, "update": update, "delete": delete },
        "remarks": plan.remarks,
        "steps": plan.steps.iter().map(step_json).collect::<Vec<_>>(),
        "conflicts": plan.conflicts,
        "waiting": plan.held,
        "unread": plan.unread,
        "totals": plan.totals,
        "brakes": brakes,
    })
}

fn step_json(step: &Step) -> Value {
    let (from, to) = match &step.action {
        Action::Create { to } => (Value::Null, to.to_value()),
        Action::Update { from, to } => (from.to_value(), to.to_value()),
        Action::Delete { from } => (from.to_value(), Value::Null),
    };
    json!({
        "action": step.action.word(),
        "kind": step.id.kind,
        "key": step.id.key,
        "summary": step.action.spec().summary(),
        "from": from,
        "to": to,
        "fields": step.action.fields(),
    })
}
