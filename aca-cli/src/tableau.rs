//! `aca tableau`: the methods, shown and checked.

use aca_core::Number;
use aca_tableau::{
    ALL, FarStability, IMPLICIT, Interpolant, StabilityInterval, StageDifference, Tableau,
    TableauDraft, aliases,
};
use serde::Serialize;

use crate::args::TableauCommand;
use crate::report::{self, Result, Side, aligned};
use crate::{fraction, method};

/// Lists, shows or checks methods.
pub fn run(command: &TableauCommand) -> Result<()> {
    match command {
        TableauCommand::List { json } => list(*json),
        TableauCommand::Show { name } => {
            let tableau = method::tableau(name)?;
            report::line(&format!("{}\n\n{}", facts(&tableau), drawing(&tableau)))
        }
        TableauCommand::Check { file } => {
            let tableau = Tableau::from_file(file)?;
            report::line(&format!("{}\nEvery claim holds.", facts(&tableau)))
        }
    }
}

/// A method in one row.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    order: usize,
    embedded_orders: Vec<usize>,
    stages: usize,
    implicit: bool,
    fsal: bool,
    interpolant_order: usize,
    aliases: &'static [&'static str],
}

impl Row {
    const HEADS: [&str; 8] =
        ["name", "order", "embedded", "stages", "implicit", "FSAL", "interpolant", "aliases"];

    fn of(tableau: &'static Tableau) -> Self {
        Self {
            name: tableau.name(),
            order: tableau.order(),
            embedded_orders: tableau.embedded().iter().map(|embedded| embedded.order).collect(),
            stages: tableau.stages(),
            implicit: tableau.is_implicit(),
            fsal: tableau.is_fsal(),
            interpolant_order: tableau.interpolant().order(),
            aliases: aliases(tableau),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.order.to_string(),
            joined(&self.embedded_orders),
            self.stages.to_string(),
            if self.implicit { "yes" } else { "no" }.to_owned(),
            if self.fsal { "yes" } else { "no" }.to_owned(),
            self.interpolant_order.to_string(),
            self.aliases.join(", "),
        ]
    }
}

/// Methods that the table cannot hold.
const WITHOUT_TABLEAU: &str = "\
--method also takes auto (dopri5 where a problem is not stiff, kvaerno5 where it is), and alf, verlet and yoshida4, which have
no tableau.";

fn list(json: bool) -> Result<()> {
    let rows: Vec<_> = ALL.into_iter().chain(IMPLICIT).map(Row::of).collect();
    let heads = Row::HEADS.map(str::to_owned).to_vec();
    let cells: Vec<_> = std::iter::once(heads).chain(rows.iter().map(Row::cells)).collect();
    report::line(&format!("{}\n\n{WITHOUT_TABLEAU}", aligned(&cells, |_| Side::Left).join("\n")))?;
    if json { report::json(&rows) } else { Ok(()) }
}

/// What a method claims and what follows from its coefficients.
fn facts(tableau: &Tableau) -> String {
    let mut facts = vec![("method", tableau.name().to_owned())];
    if !tableau.source().is_empty() {
        facts.push(("source", tableau.source().to_owned()));
    }
    facts.push(("order", satisfied(tableau.order(), tableau.satisfied_order())));
    for embedded in tableau.embedded() {
        let satisfied_order = satisfied_order(tableau, &embedded.b_hat);
        facts.push(("embedded order", satisfied(embedded.order, satisfied_order)));
    }
    facts.push(("interpolant", extra_stages(&tableau.interpolant())));
    facts.push(("stages", stages(tableau)));
    match tableau.is_implicit() {
        true => facts.extend(implicit_facts(tableau)),
        false => facts.push(("stability", stability(tableau))),
    }
    let outside = |c: &&f64| !(0.0..=1.0).contains(*c);
    if let Some(c) = tableau.c().iter().find(outside) {
        let c = Number(*c);
        facts.push(match tableau.is_implicit() {
            true => ("jumps", format!("none: a stage at c = {c} lies outside its step")),
            false => ("solves", format!("none: a stage at c = {c} lies outside its step")),
        });
    }
    let cells = facts.into_iter().map(|(head, text)| vec![head.to_owned(), text]);
    aligned(&cells.collect::<Vec<_>>(), |_| Side::Left).join("\n")
}

/// What matters of an implicit method, decided from its coefficients.
fn implicit_facts(tableau: &Tableau) -> Vec<(&'static str, String)> {
    let far = |FarStability { is_a_stable, at_infinity }: FarStability| {
        let kind = match (is_a_stable, at_infinity < 1e-10) {
            (true, true) => "L-stable",
            (true, false) => "A-stable",
            (false, _) => "not A-stable",
        };
        format!("{kind}, |R| at infinity {}", Number((at_infinity * 1e6).round() / 1e6))
    };
    let mut facts = vec![
        ("stage order", tableau.stage_order().to_string()),
        ("stability", far(tableau.far_stability())),
    ];
    for embedded in tableau.embedded() {
        facts.push(("embedded stability", far(tableau.far_stability_of(&embedded.b_hat))));
    }
    let end = if tableau.is_stiffly_accurate() { "yes" } else { "no" };
    facts.push(("stiffly accurate", end.to_owned()));
    facts
}

fn satisfied(claimed: usize, satisfied: usize) -> String {
    match satisfied {
        _ if satisfied == claimed => claimed.to_string(),
        _ => format!("{claimed} claimed, {satisfied} satisfied"),
    }
}

/// The order that other weights on the same stages satisfy.
fn satisfied_order(tableau: &Tableau, b_hat: &[f64]) -> usize {
    let draft = TableauDraft {
        order: 1,
        b: b_hat.to_vec(),
        embedded: Vec::new(),
        interpolant: None,
        ..tableau.to_draft()
    };
    Tableau::new(draft).map_or(0, |embedded| embedded.satisfied_order())
}

fn stages(tableau: &Tableau) -> String {
    match tableau.is_fsal() {
        true => format!("{}, the last is the next step's first (FSAL)", tableau.stages()),
        false => tableau.stages().to_string(),
    }
}

/// How far steps may reach beside the field's eigenvalues, and from which stages a solve sees that they do.
fn stability(tableau: &Tableau) -> String {
    let StabilityInterval { real, imaginary } = tableau.stability_interval();
    let seen = match tableau.stage_difference() {
        None => "a solve cannot estimate it".to_owned(),
        Some(StageDifference { slopes, .. }) => {
            let used = slopes.iter().enumerate().filter(|(_, w)| **w != 0.0);
            let used: Vec<_> = used.map(|(stage, _)| (stage + 1).to_string()).collect();
            format!("estimated from stages {}", used.join(", "))
        }
    };
    format!(
        "h times a rate of decay up to {real:.3}, of an oscillation up to {imaginary:.3}; {seen}"
    )
}

fn extra_stages(interpolant: &Interpolant) -> String {
    let order = interpolant.order();
    match (interpolant.extra_stages(), interpolant.first_extra_is_end_slope()) {
        (0, _) => format!("order {order}, no extra stage"),
        (1, true) => format!("order {order}, reads the next step's first stage"),
        (extra, true) => {
            format!("order {order}, reads the next step's first stage and {} more", extra - 1)
        }
        (extra, false) => format!("order {order}, {extra} extra stages"),
    }
}

/// The tableau as Butcher draws it: c and a above, the weights below.
fn drawing(tableau: &Tableau) -> String {
    let texts = |row: &[f64]| row.iter().map(|&x| fraction::text(x)).collect::<Vec<_>>();
    let row = |head: String, row: &[f64]| [vec![head, "|".to_owned()], texts(row)].concat();
    let mut rows: Vec<_> = (0..tableau.stages())
        .map(|i| {
            let own = Some(tableau.diagonal(i)).filter(|a| *a != 0.0);
            let entries: Vec<f64> = tableau.a_row(i).iter().copied().chain(own).collect();
            row(fraction::text(tableau.c()[i]), &entries)
        })
        .collect();
    rows.push(row("b".to_owned(), tableau.b()));
    for embedded in tableau.embedded() {
        rows.push(row(format!("b_hat ({})", embedded.order), &embedded.b_hat));
    }
    let mut lines = aligned(&rows, |_| Side::Right);
    let bar = lines[0].find('|').unwrap_or(0);
    let width = lines.iter().map(String::len).max().unwrap_or(0);
    let rule = format!("{}+{}", "-".repeat(bar), "-".repeat(width - bar - 1));
    lines.insert(tableau.stages(), rule);
    lines.join("\n")
}

/// The numbers with commas, or a dash for none.
fn joined(numbers: &[usize]) -> String {
    match numbers {
        [] => "-".to_owned(),
        _ => numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    }
}
