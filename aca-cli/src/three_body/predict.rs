//! What fitted masses say of times that were not observed.

use std::path::Path;

use aca_core::{Method, Number, Solver};
use aca_models::systems::ThreeBody;
use candle_core::Tensor;

use super::log::Row;
use super::{AdamSummary, Summary, final_tolerance, fit};
use crate::args::ThreeBodyArgs;
use crate::plot::{self, Chart, Mark, Orbits};
use crate::report::{self, Error, Refusal, Result};

/// End of the prediction: twice the training span.
const END: f64 = 2.0;

/// Refuses settings by which the true orbits cannot be followed to the end of the prediction, before a fit is begun
/// whose masses will be nearly the true ones.
pub fn check(args: &ThreeBodyArgs, method: &Method) -> Result<()> {
    let followed = fit::orbits(&solver(args, method), ThreeBody::MASSES, END, &[END]);
    let Err(Error::Aca(aca_core::Error::MaxSteps { max_steps, t, .. })) = followed else {
        // Without a polish the first epoch says what else is wrong.
        return if args.no_polish { Ok(()) } else { followed.map(drop) };
    };
    let (tolerance, option) = match args.no_polish {
        true => (args.rtol, "--rtol and --atol"),
        false => (args.polish_tol, "--polish-tol"),
    };
    let tolerance = format!("{option} {}", Number(tolerance));
    Err(Refusal::Prediction { method: method.name().to_owned(), t, max_steps, tolerance, option }
        .into())
}

/// The solver of the predicted orbits: the user's, at the tolerance of the last stage of the fit.
fn solver(args: &ThreeBodyArgs, method: &Method) -> Solver {
    let solver = Solver::adaptive(method.clone(), final_tolerance(args));
    Solver { max_steps: args.max_steps, ..solver }
}

/// Follows the fitted masses to twice the training span, at times between the observations.
pub fn predict(
    args: &ThreeBodyArgs,
    method: &Method,
    summary: &Summary,
    rows: &[Row],
) -> Result<()> {
    let times: Vec<f64> = (0..2000).map(|i| (i as f64 + 0.5) / 1000.0).collect();
    let truth = fit::true_orbits(ThreeBody::MASSES, END, &times)?;
    let fitted = fit::orbits(&solver(args, method), summary.masses, END, &times)?;
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
