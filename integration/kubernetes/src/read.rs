//! Exported objects: the YAML and JSON files of a directory, and of those in it.

use crate::Index;
use crate::note::plain;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Larger files are not what somebody exported: 100,000 endpoints take about 60 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Deeper directories are a loop, or not meant.
const DEPTH_MAX: usize = 16;

/// Objects that could not be read. Nothing is made of the others: what is missing would look as if it were deleted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not YAML, or not JSON.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        why: String,
    },
}

/// Reads all `*.yaml`, `*.yml` and `*.json` files below a directory, in the order of their names. Where an object is there
/// twice, the last counts. Symlinks are followed.
///
/// # Errors
///
/// A file that cannot be read, or is neither YAML nor JSON.
pub fn read_dir(directory: &Path) -> Result<Index, ReadError> {
    let mut index = Index::default();
    for path in files(directory, 0)? {
        let text = read_text(&path)?;
        for value in documents(&path, &text)? {
            index.add(value);
        }
    }
    Ok(index)
}

fn files(directory: &Path, depth: usize) -> Result<Vec<PathBuf>, ReadError> {
    let failed = |source| ReadError::Io { path: directory.to_owned(), source };
    if depth > DEPTH_MAX {
        return Err(failed(io::Error::other(format!("more than {DEPTH_MAX} directories deep"))));
    }
    let entries: io::Result<Vec<PathBuf>> =
        fs::read_dir(directory).map_err(failed)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let is_object = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        let meta = fs::metadata(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        if meta.is_dir() {
            found.extend(files(&path, depth + 1)?);
        } else if is_object && meta.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        return Err(failed(io::Error::other(format!("larger than {limit} MiB"))));
    }
    fs::read_to_string(path).map_err(failed)
}

fn documents(path: &Path, text: &str) -> Result<Vec<Value>, ReadError> {
    let syntax = |why: String| {
        // The parser's own picture of the place is several lines; its first says what and where.
        let why = plain(why.lines().next().unwrap_or_default());
        ReadError::Syntax { path: path.to_owned(), why }
    };
    if path.extension().is_some_and(|end| end == "json") {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        return values.collect::<Result<_, _>>().map_err(|error| syntax(error.to_string()));
    }
    serde_saphyr::from_multiple::<Value>(text).map_err(|error| syntax(error.to_string()))
}
