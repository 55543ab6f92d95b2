//! `netd rollback`: puts an earlier text in place of the desired file.

use super::{apply, history, node, status, success_if};
use crate::api::Client;
use crate::cli::{Global, RollbackArgs, confirm, say};
use crate::commands::instance_of;
use crate::reconcile::Preview;
use crate::report::Word;
use crate::source::{self, Reading};
use anyhow::{Context as _, anyhow, bail};
use netd_core::render::{self, Colour, Limits};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let text = history::text_of(global, args.number).await?;
    refuse_link(&global.config)?;
    netd_schema::parse(&format!("number {}", args.number), text.as_bytes()).map_err(|diagnostics| {
        anyhow!("this version does not accept that file any more\n{}", diagnostics.render(false))
    })?;
    // Written beside the file first: what is planned is what is put in place.
    let beside = Beside::write(&global.config, &text)?;
    let preview = plan(global, &beside.path).await?;
    let colour = if global.color.is_on() { Colour::Always } else { Colour::Never };
    say(&render::text(&preview.plan, &preview.brakes, colour, Limits::SCREEN))?;
    if !args.yes && !confirm(&format!("Put number {} in place of {}?", args.number, global.config.display()))?
    {
        return Ok(ExitCode::FAILURE);
    }
    beside.put_in_place(&global.config)?;
    say(&format!("{} is number {} again.\n", global.config.display(), args.number))?;
    if Client::new(&instance_of(global).socket()).get("/v1/status").await?.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    // The brakes were shown with the plan, and the answer was yes.
    let id = preview.plan.id();
    let allowed = (!preview.brakes.is_empty()).then(|| id.as_str());
    let report = apply::apply(global, allowed).await?;
    say(&status::text(&report, None, global.color.is_on()))?;
    Ok(success_if(report.word == Word::Ok))
}

async fn plan(global: &Global, file: &Path) -> anyhow::Result<Preview> {
    let mut reconciler = node::for_reading(global)?;
    match source::read(file) {
        reading @ Reading::Text(_) => reconciler.preview(&reading).await.map_err(|why| anyhow!(why)),
        reading => bail!("the text that was just written cannot be read: {reading:?}"),
    }
}

/// A symlink is how somebody else manages the file (a mounted ConfigMap, a checkout): replacing it would cut that off.
fn refuse_link(config: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(config) {
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(config).unwrap_or_default();
            bail!(
                "{} is a symlink to {}: roll back where that file is kept",
                config.display(),
                target.display()
            )
        }
        _ => Ok(()),
    }
}

/// The new text in the directory of the file; removed again unless it is put in place.
struct Beside {
    path: PathBuf,
}

impl Beside {
    fn write(config: &Path, text: &str) -> anyhow::Result<Self> {
        let name = config.file_name().context("the path of the file has no name")?.to_string_lossy();
        let path = config.with_file_name(format!(".{name}.rollback-{}", std::process::id()));
        let beside = Self { path };
        let now = fs::metadata(config).ok();
        let mode = now.as_ref().map_or(0o644, |meta| meta.mode() & 0o7777);
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside.path)?;
            if let Some(meta) = &now {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("write {}", beside.path.display()))?;
        Ok(beside)
    }

    fn put_in_place(self, config: &Path) -> anyhow::Result<()> {
        fs::rename(&self.path, config).with_context(|| format!("replace {}", config.display()))?;
        let dir = config.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", dir.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Gone already when it was put in place.
        let _ = fs::remove_file(&self.path);
    }
}
