//! `aca classify`: image classifiers with ODE blocks, trained, tested and compared.

use std::path::Path;

use aca_models::training::Checkpoint;

use crate::args::ClassifyCommand;
use crate::report::{Error, Result};

mod compare;
mod diverged;
mod draw;
mod events;
mod folder;
mod header;
mod images;
mod log;
mod reliability;
mod run;
mod setting;
mod show;
mod test;
mod train;

use images::images;
use setting::Setting;

/// Does what was asked for.
pub fn run(command: &ClassifyCommand) -> Result<()> {
    match command {
        ClassifyCommand::Train(args) => train::run(args),
        ClassifyCommand::Test(args) => test::run(args),
        ClassifyCommand::Compare(args) => compare::run(args),
        ClassifyCommand::Show(args) => show::run(args),
    }
}

/// The settings that a run of this program left in its checkpoint.
fn stored_setting(checkpoint: &Checkpoint, path: Option<&Path>) -> Result<Setting> {
    serde_json::from_value(checkpoint.about.settings.clone()).map_err(|reason| Error::Settings {
        path: path.map(Path::to_owned).unwrap_or_default(),
        reason: reason.to_string(),
    })
}
