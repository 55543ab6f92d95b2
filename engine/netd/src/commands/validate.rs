//! `netd validate`: every mistake of every file.

use super::success_if;
use crate::cli::{Global, ValidateArgs, say};
use crate::source::{self, Reading};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(global: &Global, args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let files = if args.files.is_empty() { std::slice::from_ref(&global.config) } else { &args.files };
    let verdicts: Vec<Verdict> = files.iter().map(|file| check(file, global.color.is_on())).collect();
    match args.json {
        true => say(&format!(
            "{:#}\n",
            Value::Array(verdicts.iter().map(|verdict| verdict.json.clone()).collect())
        ))?,
        false => {
            for verdict in &verdicts {
                say(&verdict.text)?;
            }
        }
    }
    Ok(success_if(verdicts.iter().all(|verdict| verdict.is_good)))
}

pub(super) struct Verdict {
    pub(super) is_good: bool,
    text: String,
    pub(super) json: Value,
}

pub(super) fn check(file: &Path, has_colour: bool) -> Verdict {
    let name = file.display().to_string();
    let verdict = |is_good, text: String, diagnostics: Value| {
        let json = json!({ "file": name, "valid": is_good, "diagnostics": diagnostics });
        Verdict { is_good, text, json }
    };
    let text = match source::read(file) {
        Reading::Text(text) => text,
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            let diagnostic = json!([{ "severity": "error", "file": name, "message": why }]);
            return verdict(false, format!("error: {why}\n"), diagnostic);
        }
    };
    match netd_schema::parse(&name, &text.bytes) {
        Ok(parsed) if parsed.warnings.is_empty() => verdict(true, format!("{name}: ok\n"), json!([])),
        Ok(parsed) => {
            let text = format!("{}\n{name}: ok, with warnings\n", parsed.warnings.render(has_colour));
            verdict(true, text, parsed.warnings.to_json())
        }
        Err(diagnostics) => {
            verdict(false, format!("{}\n", diagnostics.render(has_colour)), diagnostics.to_json())
        }
    }
}
