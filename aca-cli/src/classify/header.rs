//! What a training is about to do.

use std::path::Path;

use aca_core::Number;
use aca_models::data::DataSet;
use aca_models::networks::Network;

use super::setting::Setting;
use crate::args::{DataArgs, DataChoice, NetworkChoice};
use crate::report::{self, Result};
use crate::strategy::Strategy;

/// A training that is about to begin.
pub struct Header<'a> {
    pub setting: &'a Setting,
    pub network: &'a Network,
    pub data: &'a DataSet,
    pub args: &'a DataArgs,
    pub out: &'a Path,
    /// How gradients are found, in words.
    pub gradient: String,
}

/// The lines that a training starts with.
pub fn text(header: Header<'_>) -> Result<String> {
    let Header { setting, network, data, args, out, gradient } = header;
    let blocks = network.evaluations_by_block().len();
    let parameters: usize = network.describe().iter().map(|parameter| parameter.count).sum();
    let name = network.name().as_str();
    let mut rows = vec![
        ("network", format!("{name}, {parameters} parameters, {blocks} ODE blocks")),
        ("data", images(setting, data, args)),
    ];
    if blocks > 0 {
        rows.push(("gradient", gradient));
        rows.push(("solver", solver(setting)?));
    }
    rows.push(("plan", plan(setting)));
    rows.push(("threads", report::threads()));
    rows.push(("results", out.display().to_string()));
    Ok(report::facts(&rows))
}

/// The images, and that digits were not chosen where they were not.
fn images(setting: &Setting, data: &DataSet, args: &DataArgs) -> String {
    let [channels, height, width] = data.train.shape();
    let unasked = args.dataset.is_none() && setting.network != NetworkChoice::Digits;
    let name = match setting.dataset {
        DataChoice::Digits if unasked => "the built-in digits, as --data was not given",
        DataChoice::Digits => "the built-in digits",
        _ => data.name,
    };
    format!(
        "{name}: {} images to train on and {} to test, {channels} x {height} x {width}, {} classes",
        data.train.len(),
        data.test.len(),
        data.train.classes()
    )
}

/// The strategy of a setting, as its option calls it.
pub fn gradient(setting: &Setting) -> String {
    let checkpoints = setting.checkpoints.map_or(Strategy::CHECKPOINTS, |count| count as usize);
    match setting.gradient {
        Strategy::AcaBudget => format!("aca-budget, {checkpoints} checkpoints"),
        strategy => strategy.name().replace('_', "-"),
    }
}

fn solver(setting: &Setting) -> Result<String> {
    let Setting { method, rtol, atol, t0, t1, .. } = setting;
    let steps = match setting.fixed_step() {
        Some(h) => format!("steps of {}", Number(h)),
        None => format!("rtol {}, atol {}", Number(*rtol), Number(*atol)),
    };
    // What cannot be solved is refused before it is described.
    setting.ode()?;
    Ok(format!("{method}, {steps}, from t = {} to {}", Number(*t0), Number(*t1)))
}

fn plan(setting: &Setting) -> String {
    let plan = &setting.plan;
    format!(
        "{} epochs, {} images per batch, learning rate {}, seed {}",
        plan.epochs,
        plan.batch_size,
        Number(plan.lr),
        plan.seed
    )
}
