//! Results of earlier runs, which no command replaces without being told.
//!
//! A run whose results follow from its settings leaves these beside them. The same command with the same settings replaces its
//! own results, as they are the same again; all others are refused.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use crate::report::{Error, Refusal, Result};

/// The ways on, where results may be replaced.
pub const WAYS: &str = "give another --out, or replace it by --overwrite";

/// What a run will write, and the settings that its results follow from.
pub struct Results<'a> {
    folder: &'a Path,
    /// Name of the file of the settings.
    record: &'static str,
    settings: Table,
}

impl<'a> Results<'a> {
    /// Looks whether `command` may write `record` and `files` into `folder`.
    ///
    /// # Errors
    /// [`Refusal::Holds`] where one of them is there from other settings, unless `overwrite` is true.
    pub fn claim(
        command: &str,
        (folder, record): (&'a Path, &'static str),
        settings: &impl Serialize,
        files: &[&str],
        overwrite: bool,
    ) -> Result<Self> {
        let own = Self { folder, record, settings: table(command, settings, folder)? };
        let files = [&[record], files].concat();
        let found = files.iter().find(|file| folder.join(file).exists());
        match found.filter(|_| !overwrite) {
            Some(file) => own.compare(file).map(|()| own),
            None => Ok(own),
        }
    }

    /// Refuses a folder that holds `file` of another run.
    fn compare(&self, file: &str) -> Result<()> {
        let text = fs::read_to_string(self.folder.join(self.record)).unwrap_or_default();
        let old: Table = text.parse().unwrap_or_default();
        let holds = |what| {
            let (path, remedy) = (self.folder.to_owned(), WAYS.to_owned());
            Err(Refusal::Holds { path, what, remedy }.into())
        };
        let Some(command) = old.get("command").and_then(Value::as_str) else {
            return holds(format!("{file}, which this command did not write"));
        };
        let differs = |(key, value): &(&String, &Value)| old.get(*key) != Some(*value);
        match self.settings.iter().find(differs) {
            None => Ok(()),
            Some((key, _)) if key == "command" => holds(format!("results of `{command}`")),
            Some((key, value)) => {
                let was = old.get(key).map_or("none".to_owned(), shown);
                holds(format!("results of `{command}` with {key} = {was}, not {}", shown(value)))
            }
        }
    }

    /// Makes the folder and leaves the settings there, before or with the first result.
    pub fn begin(&self) -> Result<()> {
        fs::create_dir_all(self.folder).map_err(Error::file("create", self.folder))?;
        let path = self.folder.join(self.record);
        let line = |(key, value): (&String, &Value)| format!("{key} = {}\n", shown(value));
        let text: String = self.settings.iter().map(line).collect();
        fs::write(&path, text).map_err(Error::file("write", &path))
    }
}

/// Refuses to replace files that the user named.
pub fn check_files<'a>(files: impl Iterator<Item = &'a PathBuf>, overwrite: bool) -> Result<()> {
    for path in files {
        if path.exists() && !overwrite {
            return Err(Refusal::Exists { path: path.clone() }.into());
        }
    }
    Ok(())
}

/// Makes the folder that a file of the user's lies in.
pub fn make_folder_of(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::create_dir_all(folder).map_err(Error::file("create", folder)),
        None => Ok(()),
    }
}

/// The settings as a table, the command among them.
fn table(command: &str, settings: &impl Serialize, folder: &Path) -> Result<Table> {
    let table = Table::try_from(settings);
    let mut table = table
        .map_err(|error| Error::file("write settings to", folder)(std::io::Error::other(error)))?;
    table.insert("command".to_owned(), command.into());
    Ok(table)
}

/// A value as TOML has it, numbers with their significant digits alone.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(number) => format!("{number:?}"),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
