//! `aca classify compare`: strategies of the gradient and a plain network, with the same seeds.

mod tables;

use std::fs;
use std::sync::Arc;

use aca_core::Method;
use aca_models::communicator::Alone;
use aca_models::data::DataSet;
use aca_models::training::{EpochRow, Trainer, evaluate};
use candle_core::Device;
use serde::Serialize;

use super::header::{self, Header};
use super::reliability::intraclass_correlation;
use super::run::Run;
use super::setting::Setting;
use super::{draw, folder};
use crate::args::{CompareArgs, NetworkChoice};
use crate::report::{self, Error, Refusal, Result};
use crate::strategy::Strategy;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    Aca,
    Naive,
    Backsolve,
    /// The network without ODEs: plain blocks in their place.
    Plain,
}

/// One training.
pub struct Trained {
    pub contestant: Contestant,
    pub seed: u64,
    pub history: Vec<EpochRow>,
    /// Share given to the true class of each test image, after the last epoch.
    certainties: Vec<f64>,
}

/// What the trainings of a contestant gave.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub contestant: Contestant,
    /// Test accuracy after the last epoch, sorted.
    pub accuracies: Vec<f64>,
    pub mean_accuracy: f64,
    /// Median time of a training.
    pub seconds: f64,
    /// Time of ACA divided by this.
    pub aca_time_ratio: f64,
    /// Evaluations of fields for a training batch.
    pub nfe: [f64; 2],
    pub reliability: Option<f64>,
}

/// Trains every contestant with every seed, and draws the paper's figure 7 of it.
pub fn run(args: &CompareArgs) -> Result<()> {
    let seeds = 0..u64::from(args.runs);
    let part = |seed| Contestant::ALL.map(|contestant| contestant.folder(seed));
    folder::check_comparison(&args.out, seeds.flat_map(part), args.overwrite)?;
    let base = Setting::preset(args.network, &args.data).solved(&args.solver)?.planned(&args.plan);
    if base.ode()?.solver.method.name() == Method::Leapfrog.name() {
        return Err(Refusal::LeapfrogCompared { method: base.method }.into());
    }
    base.check_explicit()?;
    let data = super::images(&base, &args.data)?;
    let network = base.network(&data, args.device.open()?)?;
    // Refuses what no training could begin with.
    let trainer = Trainer::new(network, data.clone(), base.plan.clone())?;
    let trainer = trainer.distributed(Arc::new(Alone))?;
    let header = Header {
        setting: &base,
        network: trainer.network(),
        data: &data,
        args: &args.data,
        out: &args.out,
        gradient: format!(
            "each contestant's: {}",
            Contestant::ALL.map(Contestant::name).join(", ")
        ),
    };
    report::line(&header::text(header)?)?;
    fs::create_dir_all(&args.out).map_err(Error::file("create", &args.out))?;
    let runs = train_all(args, &base, &data)?;
    let summaries = summaries(&runs);
    report::line(&tables::printed(&summaries).join("\n"))?;
    let mut files = vec![args.out.join("compare.csv"), args.out.join("epochs.csv")];
    tables::write_summaries(&files[0], &summaries)?;
    tables::write_epochs(&files[1], &runs)?;
    files.extend(draw::compare(&args.out.join("compare"), &runs, &summaries)?);
    for file in files {
        report::line(&format!("written  {}", file.display()))?;
    }
    if args.json { report::json(&summaries) } else { Ok(()) }
}

fn train_all(args: &CompareArgs, base: &Setting, data: &DataSet) -> Result<Vec<Trained>> {
    let trainings = u64::from(args.runs) * Contestant::ALL.len() as u64;
    let bar = report::progress(trainings, "{bar:24} {pos:>3}/{len} {msg} [{elapsed}]");
    let (mut runs, device) = (Vec::new(), args.device.open()?);
    // Seeds outside, so that a load on the machine that comes and goes meets all alike.
    for seed in 0..u64::from(args.runs) {
        for contestant in Contestant::ALL {
            bar.set_message(format!("{}, seed {seed}", contestant.name()));
            let out = args.out.join(contestant.folder(seed));
            let run = Run {
                setting: contestant.setting(base, seed),
                out,
                resumed: None,
                stop: None,
                shows: false,
                check_gradient: None,
            };
            runs.push(train(contestant, &run, data.clone(), &device)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(runs)
}

fn train(contestant: Contestant, run: &Run, data: DataSet, device: &Device) -> Result<Trained> {
    let (test, recipe) = (data.test.clone(), data.recipe.clone());
    let (network, plan) = (run.setting.network(&data, device.clone())?, run.setting.plan.clone());
    let seed = plan.seed;
    let mut trainer = Trainer::new(network, data, plan)?;
    run.train(&mut trainer)?;
    let certainties = evaluate(trainer.network(), &test, &recipe, 128)?.certainties;
    Ok(Trained { contestant, seed, history: trainer.history().to_vec(), certainties })
}

impl Contestant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aca, Self::Naive, Self::Backsolve, Self::Plain];

    /// Its name in tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aca => "ACA",
            Self::Naive => "naive",
            Self::Backsolve => "backsolve",
            Self::Plain => "plain network",
        }
    }

    /// The folder of one of its trainings.
    fn folder(self, seed: u64) -> String {
        let name = match self {
            Self::Aca => "aca",
            Self::Naive => "naive",
            Self::Backsolve => "backsolve",
            Self::Plain => "plain",
        };
        format!("{name}-{seed}")
    }

    /// How it is trained.
    ///
    /// One step of Euler's method over the whole span is a residual block: y + f(y).
    fn setting(self, base: &Setting, seed: u64) -> Setting {
        let gradient = match self {
            Self::Aca | Self::Plain => Strategy::Aca,
            Self::Naive => Strategy::Naive,
            Self::Backsolve => Strategy::Backsolve,
        };
        let mut setting = base.clone().differentiated(Some(gradient), None);
        setting.plan.seed = seed;
        if self == Self::Plain {
            match setting.network {
                NetworkChoice::Node18 => setting.network = NetworkChoice::Resnet18,
                _ => {
                    setting.method = aca_tableau::EULER.name().to_owned();
                    setting.h = Some((setting.t1 - setting.t0).abs());
                }
            }
        }
        setting
    }
}

impl Trained {
    /// Time of the training.
    pub fn seconds(&self) -> f64 {
        self.history.last().map_or(0.0, |row| row.seconds)
    }

    /// Test accuracy after the last epoch.
    fn accuracy(&self) -> f64 {
        self.history.last().map_or(0.0, |row| row.test.accuracy())
    }
}

fn summaries(runs: &[Trained]) -> Vec<Summary> {
    let of = |contestant| runs.iter().filter(move |run| run.contestant == contestant);
    let seconds = |contestant| median(of(contestant).map(Trained::seconds).collect());
    let summary = |contestant| {
        let mut accuracies: Vec<f64> = of(contestant).map(Trained::accuracy).collect();
        accuracies.sort_by(f64::total_cmp);
        let certainties: Vec<_> = of(contestant).map(|run| run.certainties.clone()).collect();
        let rows = of(contestant).flat_map(|run| &run.history);
        let nfe = rows.map(|row| row.train.nfe_a_batch()).collect::<Vec<_>>();
        let mean = |i: usize| nfe.iter().map(|nfe| nfe[i]).sum::<f64>() / nfe.len().max(1) as f64;
        Summary {
            contestant,
            mean_accuracy: accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64,
            accuracies,
            seconds: seconds(contestant),
            aca_time_ratio: seconds(Contestant::Aca) / seconds(contestant),
            nfe: [mean(0), mean(1)],
            reliability: intraclass_correlation(&certainties),
        }
    };
    Contestant::ALL.map(summary).into()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    draw::quantile(&numbers, 0.5)
}
