//! `aca classify show`: what a network is made of.

use aca_models::networks::{LoadReport, Network, NetworkSpec};

use super::setting::Setting;
use crate::args::{DataArgs, NetworkChoice, ShowArgs};
use crate::report::{self, Result, Side, aligned};

/// Prints the parameters of a network, and how a checkpoint of PyTorch fits it.
pub fn run(args: &ShowArgs) -> Result<()> {
    let channels = if args.network == NetworkChoice::Digits { 1 } else { 3 };
    let ode = Setting::preset(Some(args.network), &DataArgs::default()).ode()?;
    let classes = args.classes as usize;
    let network = Network::new(
        &NetworkSpec { classes, channels, ..NetworkSpec::of(args.network.name()) },
        &ode,
    )?;
    let rows = network.describe();
    let total: usize = rows.iter().map(|row| row.count).sum();
    let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
    let cells =
        rows.iter().map(|row| vec![row.name.clone(), text(&row.shape), row.count.to_string()]);
    let heads = ["parameter", "shape", "count"].map(str::to_owned).to_vec();
    let foot = vec!["all".to_owned(), String::new(), total.to_string()];
    let rows: Vec<_> = std::iter::once(heads).chain(cells).chain([foot]).collect();
    let side = |column| if column == 2 { Side::Right } else { Side::Left };
    let found = args.pth.as_ref().map(|path| network.load_pth(path)).transpose()?;
    report::line(&aligned(&rows, side).join("\n"))?;
    found.map_or(Ok(()), |found| report::line(&fit(&found)))
}

fn fit(LoadReport { loaded, missing, extra }: &LoadReport) -> String {
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    format!("loaded   {}\nmissing  {}\nextra    {}", loaded.len(), list(missing), list(extra))
}
