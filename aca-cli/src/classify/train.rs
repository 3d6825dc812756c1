//! `aca classify train`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aca_models::communicator::{Communicator, same, together};
use aca_models::training::{Checkpoint, Trainer};
use candle_core::Device;

use super::folder::Place;
use super::header::{self, Header};
use super::run::{LAST, Run, Summary};
use super::setting::Setting;
use crate::args::TrainArgs;
use crate::distributed;
use crate::report::{self, Error, Refusal, Result};

/// Trains, or goes on to, in one process or in many.
pub fn run(args: &TrainArgs) -> Result<()> {
    let place = Place::of(args);
    let last = place.out.join(LAST);
    let device = args.device;
    distributed::run(args.ranks.distributed, device, Some(last), |ranks, device| {
        train(args, place, ranks, device)
    })
}

fn train(
    args: &TrainArgs,
    place: Place,
    ranks: Arc<dyn Communicator>,
    device: Device,
) -> Result<()> {
    let leads = ranks.rank() == 0;
    let (run, mut trainer, header) = begin(args, place, ranks, device)?;
    if leads {
        report::line(&header)?;
        if let Some(line) = nothing_left(&run, &trainer) {
            report::line(&line)?;
        }
    }
    let summary = run.train(&mut trainer)?;
    if !leads {
        return Ok(());
    }
    report::line(&text(&summary, &run))?;
    if args.json { report::json(&summary) } else { Ok(()) }
}

/// Reads what there is, and joins the other processes.
fn begin(
    args: &TrainArgs,
    place: Place,
    ranks: Arc<dyn Communicator>,
    device: Device,
) -> Result<(Run, Trainer, String)> {
    let prepare = || {
        if ranks.rank() == 0 {
            place.check(args.overwrite)?;
        }
        let checkpoint = place.resume.as_deref().map(Checkpoint::load).transpose()?;
        let setting = settle(args, &place, checkpoint.as_ref())?;
        let data = super::images(&setting, &args.data)?;
        let network = setting.network(&data, device)?;
        let gradient = header::gradient(&setting);
        let header = header::text(Header {
            setting: &setting,
            network: &network,
            data: &data,
            args: &args.data,
            out: &place.out,
            gradient,
        })?;
        let trainer = Trainer::new(network, data, setting.plan.clone())?;
        Ok((checkpoint, setting, trainer, header))
    };
    let (checkpoint, setting, trainer, header) = together::<_, Error>(&*ranks, prepare())?;
    same(&*ranks, "settings", setting.fingerprint())?;
    let mut trainer = trainer.distributed(ranks.clone())?;
    if let Some(checkpoint) = &checkpoint {
        together(&*ranks, trainer.resume(checkpoint))?;
    }
    // Ranks cannot stop one by one, so a signal ends them all: see `distributed`.
    let stop = if args.ranks.distributed { None } else { Some(stop_on_interrupt()?) };
    let Place { out, resume: resumed, .. } = place;
    let check_gradient = args.check_gradient;
    Ok((Run { setting, out, resumed, stop, shows: true, check_gradient }, trainer, header))
}

/// Joins the preset, or the settings of a checkpoint, with the user's options.
fn settle(args: &TrainArgs, place: &Place, checkpoint: Option<&Checkpoint>) -> Result<Setting> {
    let mut setting = match checkpoint {
        Some(checkpoint) => {
            let done = checkpoint.about.history.len();
            if let Some(epochs) = args.plan.epochs.filter(|epochs| *epochs < done) {
                let path = place.resume.clone().unwrap_or_default();
                return Err(Refusal::EpochsDone { path, done, epochs }.into());
            }
            super::stored_setting(checkpoint, place.resume.as_deref())?.with_data(&args.data)
        }
        None => Setting::preset(args.network, &args.data),
    };
    // Another network than the checkpoint's is refused where its tensors are read.
    setting.network = args.network.unwrap_or(setting.network);
    setting.plan.seed = args.seed.unwrap_or(setting.plan.seed);
    setting
        .differentiated(args.gradient, args.mode)
        .solved(&args.solver)?
        .planned(&args.plan)
        .shared(args.ranks)
        .within(args.checkpoints)
}

/// A flag that Ctrl-C raises; a second one ends the program at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

/// Says that a resumed run has all its epochs.
fn nothing_left(run: &Run, trainer: &Trainer) -> Option<String> {
    let (done, path) = (trainer.position().epoch, run.resumed.as_ref()?);
    let next = (done >= trainer.plan().epochs).then_some(done + 1)?;
    Some(format!(
        "{} already has {done} of {done} epochs, so nothing is trained; give more by --epochs, such as --epochs {next}\n",
        path.display()
    ))
}

fn text(summary: &Summary, run: &Run) -> String {
    let Summary { test_accuracy, best_epoch, seconds, images_per_second, .. } = summary;
    format!(
        "test accuracy      {:.2} %, epoch {best_epoch}\nseconds            {seconds:.1}\nimages per second  \
         {images_per_second:.0}\nwritten            {}",
        100.0 * test_accuracy,
        run.out.display()
    )
}
