//! The file that people own: its text goes into the result as it is, and what it says wins.

use netd_schema::Config;

/// A base file.
#[derive(Clone, Debug)]
pub struct Base {
    pub(crate) text: String,
    pub(crate) config: Config,
}

/// Why nothing can be added to a base file.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It has mistakes, as `netd validate` shows them.
    #[error("the base file has mistakes\n{0}")]
    Mistakes(String),
    /// A list that goes on in the result cannot be written between brackets: TOML has no way to go on with it.
    #[error(
        "the base file writes `{0} = [...]`, to which nothing can be added: write each as a table, `[[{0}]]`"
    )]
    Inline(&'static str),
}

/// The lists that this adapter adds to.
const LISTS: [&str; 3] = ["egress", "nodes", "services"];

impl Base {
    /// Nothing that people say.
    #[must_use]
    pub fn none() -> Self {
        Self { text: "version = 1\n".to_owned(), config: Config::default() }
    }

    /// Reads a file; `name` is only shown.
    ///
    /// # Errors
    ///
    /// Its mistakes.
    pub fn read(name: &str, text: &str) -> Result<Self, BaseError> {
        let parsed = netd_schema::parse(name, text.as_bytes())
            .map_err(|mistakes| BaseError::Mistakes(mistakes.render(false)))?;
        let is_inline = |list: &&&str| {
            let document = toml_edit::Document::parse(text).ok();
            document.is_some_and(|document| document.get(list).is_some_and(toml_edit::Item::is_value))
        };
        if let Some(list) = LISTS.iter().find(is_inline) {
            return Err(BaseError::Inline(list));
        }
        let mut text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(Self { text, config: parsed.config })
    }
}
