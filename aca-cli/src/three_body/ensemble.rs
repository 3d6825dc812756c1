//! Fits from many start masses, shared among processes.

use std::ops::Range;

use aca_core::Method;
use aca_models::communicator::{Communicator, Fingerprint, gather_texts, same, together};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::{Config, ENSEMBLE, Summary, checked, claim, fit, record};
use crate::args::ThreeBodyArgs;
use crate::report::{self, Error, Result, Side, aligned};

/// What became of the fit of one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fit {
    seed: u64,
    rank: usize,
    outcome: Result<Summary, String>,
}

/// One line of ensemble.csv; a fit that failed has no numbers but a reason.
#[derive(Serialize)]
struct Line<'a> {
    seed: u64,
    rank: usize,
    m1: Option<f64>,
    m2: Option<f64>,
    m3: Option<f64>,
    max_mass_error: Option<f64>,
    sum_sq: Option<f64>,
    adam_sum_sq: Option<f64>,
    nfe_forward: Option<usize>,
    nfe_backward: Option<usize>,
    seconds: Option<f64>,
    failure: &'a str,
}

/// Fits with every seed; the first process then fits with the best of them once more, with its table
/// and pictures.
///
/// Every process takes each `ranks.size()`-th seed. A fit that fails is a line of the table.
pub fn run(args: &ThreeBodyArgs, seeds: Range<u64>, ranks: &dyn Communicator) -> Result<()> {
    let leads = ranks.rank() == 0;
    let prepare = || {
        let method = checked(args)?;
        let results = leads.then(|| claim(args, &Config::of_ensemble(args))).transpose()?;
        Ok((method, results))
    };
    let (tableau, results) = together::<_, Error>(ranks, prepare())?;
    let ThreeBodyArgs { epochs, rtol, atol, polish_tol, max_steps, no_polish, .. } = args;
    let settings = format!(
        "{seeds:?} {epochs} {tableau:?} {rtol} {atol} {polish_tol} {max_steps} {no_polish}"
    );
    same(ranks, "settings", Fingerprint::of(settings.as_bytes()))?;
    let own = own_fits(args, seeds, &tableau, ranks);
    let text = serde_json::to_string(&own).unwrap_or_default();
    let texts = gather_texts(ranks, Some(&text))?;
    let Some(results) = results else { return Ok(()) };
    let read = |text| serde_json::from_str::<Vec<Fit>>(text).map_err(candle_core::Error::wrap);
    let fits = texts.iter().flatten().map(|text| read(text));
    let mut fits = fits.collect::<candle_core::Result<Vec<_>>>()?.concat();
    fits.sort_by_key(|fit| fit.seed);
    results.begin()?;
    report::table(&args.out.join(ENSEMBLE), fits.iter().map(Line::new))?;
    report::line(&table(&fits).join("\n"))?;
    let best = best(&fits)?;
    report::line(&format!("\nbest seed     {best}"))?;
    // The folder is this run's: it was claimed before the first fit.
    record(&ThreeBodyArgs { seed: best, overwrite: true, ..args.clone() }, tableau)
}

fn own_fits(
    args: &ThreeBodyArgs,
    seeds: Range<u64>,
    tableau: &Method,
    ranks: &dyn Communicator,
) -> Vec<Fit> {
    let rank = ranks.rank();
    let seeds: Vec<_> = seeds.skip(rank).step_by(ranks.size()).collect();
    let bar = match rank {
        0 => report::progress(seeds.len() as u64, "{bar:24} {pos:>3}/{len} fits [{elapsed}]"),
        _ => ProgressBar::hidden(),
    };
    let fit_one = |seed: u64| {
        let args = ThreeBodyArgs { seed, ..args.clone() };
        let outcome = fit(&args, tableau.clone(), &mut |_, _, _| Ok(()));
        bar.inc(1);
        // JSON knows no other numbers.
        let outcome = outcome.map_err(|error| error.to_string()).and_then(|found| {
            let sums = [found.best_sum_sq, found.adam.best_sum_sq, found.adam.max_mass_error];
            match found.masses.into_iter().chain(sums).all(f64::is_finite) {
                true => Ok(found),
                false => Err("the masses or their sum of squares are not finite".to_owned()),
            }
        });
        Fit { seed, rank, outcome }
    };
    let fits = seeds.into_iter().map(fit_one).collect();
    bar.finish_and_clear();
    fits
}

/// The seed with the smallest sum of squares.
fn best(fits: &[Fit]) -> Result<u64> {
    let sums =
        fits.iter().filter_map(|fit| Some((fit.outcome.as_ref().ok()?.best_sum_sq, fit.seed)));
    sums.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, seed)| seed).ok_or_else(|| {
        let reason = fits.iter().find_map(|fit| fit.outcome.as_ref().err()).cloned();
        Error::NoFit { fits: fits.len(), reason: reason.unwrap_or_default() }
    })
}

impl<'a> Line<'a> {
    fn new(fit: &'a Fit) -> Self {
        let found = fit.outcome.as_ref().ok();
        let [m1, m2, m3] = [0, 1, 2].map(|i| found.map(|found| found.masses[i]));
        Self {
            seed: fit.seed,
            rank: fit.rank,
            m1,
            m2,
            m3,
            max_mass_error: found.map(|found| found.max_mass_error),
            sum_sq: found.map(|found| found.best_sum_sq),
            adam_sum_sq: found.map(|found| found.adam.best_sum_sq),
            nfe_forward: found.map(|found| found.nfe_forward),
            nfe_backward: found.map(|found| found.nfe_backward),
            seconds: found.map(|found| found.seconds),
            failure: fit.outcome.as_ref().err().map_or("", String::as_str),
        }
    }
}

fn table(fits: &[Fit]) -> Vec<String> {
    let head = ["seed", "mass error", "sum of squares", "after Adam", "seconds"];
    let row = |fit: &Fit| match &fit.outcome {
        Ok(found) => vec![
            fit.seed.to_string(),
            format!("{:.1e}", found.max_mass_error),
            format!("{:.2e}", found.best_sum_sq),
            format!("{:.2e}", found.adam.best_sum_sq),
            format!("{:.1}", found.seconds),
        ],
        Err(reason) => vec![fit.seed.to_string(), reason.clone()],
    };
    let rows: Vec<_> =
        [head.map(str::to_owned).to_vec()].into_iter().chain(fits.iter().map(row)).collect();
    aligned(&rows, |_| Side::Right)
}
