//! The images of a run, fetched from their publisher where that was asked for.

use aca_models::data::DataSet;

use super::setting::Setting;
use crate::args::{DataArgs, DataChoice};
use crate::report::{Refusal, Result};

/// The images that `setting` names.
pub fn images(setting: &Setting, args: &DataArgs) -> Result<DataSet> {
    fetch(setting, args)?;
    let dir = || setting.data.as_deref().ok_or(Refusal::NoDataDirectory);
    Ok(match setting.dataset {
        DataChoice::Digits => DataSet::digits()?,
        DataChoice::Cifar10 => DataSet::cifar10(dir()?)?,
        DataChoice::Cifar100 => DataSet::cifar100(dir()?)?,
    })
}

#[cfg(feature = "download")]
fn fetch(setting: &Setting, args: &DataArgs) -> Result<()> {
    use aca_models::data::Archive;

    use crate::report;

    let archive = match setting.dataset {
        DataChoice::Cifar10 => Archive::cifar10(),
        DataChoice::Cifar100 => Archive::cifar100(),
        DataChoice::Digits => return Ok(()),
    };
    let Some(dir) = args.data.as_deref().filter(|_| args.download) else { return Ok(()) };
    let bar = report::progress(0, "{bar:24} {bytes}/{total_bytes} {bytes_per_sec}");
    archive.fetch(dir, &mut |here, whole| {
        bar.set_length(whole.unwrap_or(here));
        bar.set_position(here);
    })?;
    bar.finish_and_clear();
    Ok(())
}

#[cfg(not(feature = "download"))]
fn fetch(_: &Setting, _: &DataArgs) -> Result<()> {
    Ok(())
}
