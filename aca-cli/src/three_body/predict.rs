//! What fitted masses say of times that were not observed.

use std::path::Path;

use aca_core::Solver;
use aca_models::systems::ThreeBody;
use candle_core::Tensor;

use super::log::Row;
use super::{AdamSummary, Summary, fit, polish};
use crate::args::ThreeBodyArgs;
use crate::method::method;
use crate::plot::{self, Chart, Mark, Orbits};
use crate::report::{self, Result};

/// Follows the fitted masses to twice the training span, at times between the observations.
pub fn predict(args: &ThreeBodyArgs, summary: &Summary, rows: &[Row]) -> Result<()> {
    let times: Vec<f64> = (0..2000).map(|i| (i as f64 + 0.5) / 1000.0).collect();
    let truth = fit::true_orbits(ThreeBody::MASSES, 2.0, &times)?;
    let solver = Solver::for_method(method(&args.method)?, polish::TOLERANCE, None)?;
    let fitted = fit::orbits(&solver, summary.masses, 2.0, &times)?;
    let apart = (&fitted - &truth)?.abs()?;
    let worst = |start: usize| -> Result<f64> {
        Ok(apart.narrow(0, start, 1000)?.max_all()?.to_scalar::<f64>()?)
    };
    let (seen, unseen) = (worst(0)?, worst(1000)?);
    tell(summary, seen, unseen, &args.out)?;
    if args.no_plots {
        return Ok(());
    }
    let (truth, fitted) = (bodies(&truth)?, bodies(&fitted)?);
    let caption = format!(
        "Three bodies from fitted masses: worst position error {unseen:.1e} up to twice the training span"
    );
    plot::orbits(&args.out.join("trajectory.png"), &truth, &fitted, &caption)?;
    plot::animation(
        &args.out.join("orbits.gif"),
        &truth,
        &fitted,
        &times,
        "Three bodies, true and predicted",
    )?;
    draw_loss(args, summary, rows)
}

fn draw_loss(args: &ThreeBodyArgs, summary: &Summary, rows: &[Row]) -> Result<()> {
    let of = |stage: &str| -> Vec<(f64, f64)> {
        let rows = rows.iter().enumerate().filter(|(_, row)| row.stage == stage);
        rows.map(|(i, row)| (i as f64, row.sum_sq)).collect()
    };
    let (adam, polish) = (of("adam"), of("polish"));
    let mut series = vec![("Adam", adam)];
    if !polish.is_empty() {
        series.push(("L-BFGS", polish));
    }
    let AdamSummary { best_sum_sq, best_epoch, .. } = summary.adam;
    let mark = Mark {
        at: (best_epoch as f64, best_sum_sq),
        label: format!("best epoch {best_epoch}: {best_sum_sq:.2e}"),
    };
    let chart = Chart {
        series: &series,
        x_label: "gradient evaluation",
        y_label: "sum of squared position errors",
        caption: "Fitting three masses",
        mark: Some(mark),
    };
    plot::loss_curve(&args.out.join("loss.png"), &chart)
}

fn tell(summary: &Summary, seen: f64, unseen: f64, out: &Path) -> Result<()> {
    let Summary { masses, adam, .. } = summary;
    report::line(&format!(
        "masses        {:.9} {:.9} {:.9} (true 1.1 1.1 0.9)\n\
         mass error    {:.1e} (after Adam {:.1e}, best epoch {})\n\
         sum of squares {:.2e} (after Adam {:.2e})\n\
         position error {seen:.1e} on [0, 1], {unseen:.1e} on [1, 2], which was not trained on\n\
         cost          {:.1} s, {} + {} field evaluations, {} steps, {} rejected\n\
         results in {}",
        masses[0],
        masses[1],
        masses[2],
        summary.max_mass_error,
        adam.max_mass_error,
        adam.best_epoch,
        summary.best_sum_sq,
        adam.best_sum_sq,
        summary.seconds,
        summary.nfe_forward,
        summary.nfe_backward,
        summary.accepted,
        summary.rejected,
        out.display()
    ))
}

/// Splits positions `[times, 9]` into the paths of the bodies.
fn bodies(positions: &Tensor) -> Result<Orbits> {
    let rows = positions.to_vec2::<f64>()?;
    Ok([0, 3, 6].map(|at| rows.iter().map(|row| [row[at], row[at + 1], row[at + 2]]).collect()))
}
