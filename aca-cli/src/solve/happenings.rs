//! Systems on whose way something happens: what, and how it is drawn.

use std::path::Path;

use aca_core::Number;
use aca_dense::{Event, Events};
use aca_models::systems::{Ball, ClosedForm, Izhikevich, ThrownBall};
use candle_core::{Device, Tensor, Var};

use super::Solved;
use super::problem::{Classic, Problem};
use crate::args::SolveArgs;
use crate::plot::{Figure, HUES, Key, Marker, Panel, Point, Portrait, Scale};
use crate::report::Result;

/// What may happen, and how it is drawn.
pub struct Watched {
    pub events: Events,
    pub names: &'static [&'static str],
    pub samples: usize,
    pub view: View,
}

/// How a solve with events is drawn.
#[derive(Clone, Copy, PartialEq)]
pub enum View {
    /// The first entry of the state over time, with its events.
    Height,
    /// The first entry against the second, with the events.
    Path,
    /// The events of every sample over time, and the first entry of the last one.
    Spikes,
}

/// Something that happened.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Happened {
    pub t: f64,
    pub event: &'static str,
    pub sample: usize,
    pub before: Vec<f64>,
    pub after: Vec<f64>,
}

/// Neurons of a solve.
const NEURONS: usize = 100;

/// A ball that bounces.
pub fn bouncing_ball(args: &SolveArgs) -> Result<Problem> {
    let classic = Classic {
        system: Ball,
        name: "bouncing-ball",
        title: "A ball that bounces",
        params: ["g", "restitution"].into_iter().zip(Ball::CLASSIC).collect(),
        y0: &[5.0, 0.0],
        t1: 8.0,
        names: &["height", "speed"],
        portrait: Portrait::None,
    };
    classic.build_with(args, |field: &ClosedForm<Ball>| {
        watched(vec![Ball::bounce(field.theta())], &["bounce"], View::Height)
    })
}

/// A ball that is thrown, and comes down.
pub fn thrown_ball(args: &SolveArgs) -> Result<Problem> {
    let classic = Classic {
        system: ThrownBall,
        name: "thrown-ball",
        title: "A ball thrown through air",
        params: ["g", "drag"].into_iter().zip(ThrownBall::CLASSIC).collect(),
        y0: &[0.0, 1.5, 20.0, 15.0],
        t1: 10.0,
        names: &["x", "height", "vx", "vy"],
        portrait: Portrait::None,
    };
    let events = || vec![ThrownBall::apex(), ThrownBall::ground()];
    classic.build_with(args, |_| watched(events(), &["apex", "ground"], View::Path))
}

/// A hundred of Izhikevich's neurons, whose currents lie between two.
pub fn neuron(args: &SolveArgs) -> Result<Problem> {
    let params = [("a", 0.02), ("b", 0.2), ("c", -65.0), ("d", 8.0), ("low", 2.0), ("high", 20.0)];
    let mut classic = Classic {
        system: Izhikevich,
        name: "neuron",
        title: "A hundred of Izhikevich's neurons",
        params: params.to_vec(),
        y0: &Izhikevich::Y0,
        t1: 300.0,
        names: &["v", "u"],
        portrait: Portrait::None,
    };
    classic.set_all(args)?;
    let of = |i: usize| classic.params[i].1;
    let current = |i: usize| of(4) + (of(5) - of(4)) * i as f64 / (NEURONS - 1) as f64;
    let rows = (0..NEURONS).flat_map(|i| [of(0), of(1), of(2), of(3), current(i)]);
    let theta = Tensor::from_iter(rows, &Device::Cpu)?.reshape((NEURONS, 5))?;
    let theta = Var::from_tensor(&theta)?;
    let mut watched = watched(vec![Izhikevich::spike(&theta)], &["spike"], View::Spikes);
    watched.samples = NEURONS;
    classic.join(args, Box::new(ClosedForm::new(Izhikevich, theta)), Some(watched))
}

fn watched(list: Vec<Event>, names: &'static [&'static str], view: View) -> Watched {
    Watched { events: Events::new(list), names, samples: 1, view }
}

/// "bounce 7 times, the last at t = 3.1".
pub fn told(watched: &Watched, happened: &[Happened]) -> String {
    let each = watched.names.iter().filter_map(|name| {
        let own = happened.iter().filter(|own| own.event == *name);
        let last = own.clone().map(|own| own.t).fold(f64::NEG_INFINITY, f64::max);
        let last = Number(format!("{last:.9e}").parse().unwrap_or(last));
        match own.count() {
            0 => None,
            1 => Some(format!("{name} at t = {last}")),
            count => Some(format!("{name} {count} times, the last at t = {last}")),
        }
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "none".to_owned() } else { each.join("; ") }
}

/// Draws a solve with its events.
pub fn draw(path: &Path, problem: &Problem, watched: &Watched, solved: &Solved) -> Result<()> {
    let caption = format!("{}: {}", problem.title, told(watched, &solved.happened));
    let (keys, panels) = match watched.view {
        View::Spikes => spikes(problem, watched, solved),
        View::Height => curve(watched, solved, ["time (s)", "height (m)"], |t, y| (t, y[0])),
        View::Path => curve(watched, solved, ["distance (m)", "height (m)"], |_, y| (y[0], y[1])),
    };
    let size = (1280.0, if panels.len() > 1 { 300.0 } else { 460.0 });
    let figure = Figure { caption: &caption, keys: &keys, panels: &panels, columns: 1, size };
    figure.write_png(path)
}

fn line(name: &str, color: usize) -> Key {
    Key { name: name.to_owned(), color: HUES[color], width: 1.75, marker: Marker::None }
}

fn dots(name: &str, color: usize) -> Key {
    Key { name: name.to_owned(), color: HUES[color], width: 0.0, marker: Marker::Dot }
}

/// One curve with all events on it.
fn curve(
    watched: &Watched,
    solved: &Solved,
    labels: [&'static str; 2],
    at: fn(f64, &[f64]) -> Point,
) -> (Vec<Key>, Vec<Panel>) {
    let mut points: Vec<Point> = solved.ts.iter().zip(&solved.ys).map(|(&t, y)| at(t, y)).collect();
    points.extend(solved.happened.iter().map(|own| at(own.t, &own.before)));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut curves = Vec::new();
    let mut keys = Vec::new();
    for (color, &name) in watched.names.iter().enumerate() {
        let own = solved.happened.iter().filter(|own| own.event == name);
        curves.push(own.map(|own| at(own.t, &own.before)).collect());
        keys.push(dots(name, color + 1));
    }
    let panel = Panel {
        title: String::new(),
        x: (around(points.iter().map(|p| p.0)), labels[0]),
        y: (around(points.iter().map(|p| p.1)), labels[1]),
        curves: [curves, vec![points]].concat(),
        labels: Vec::new(),
    };
    keys.push(line("solution", 0));
    (keys, vec![panel])
}

/// The spikes of all neurons, and the potential of the last.
fn spikes(problem: &Problem, watched: &Watched, solved: &Solved) -> (Vec<Key>, Vec<Panel>) {
    let raster: Vec<Point> =
        solved.happened.iter().map(|own| (own.t, (own.sample + 1) as f64)).collect();
    let last = watched.samples - 1;
    let width = problem.names.len();
    let states = solved.ts.iter().zip(&solved.ys);
    let mut points: Vec<Point> = states.map(|(&t, y)| (t, y[last * width])).collect();
    for own in solved.happened.iter().filter(|own| own.sample == last) {
        points.extend([(own.t, own.before[0]), (own.t, own.after[0])]);
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let time = (around(solved.ts.iter().copied()), "time (ms)");
    let keys = vec![dots("spikes", 1), line("potential of the last neuron", 0)];
    let panels = vec![
        Panel {
            title: String::new(),
            x: time,
            y: (Scale::Linear(0.0, watched.samples as f64 + 1.0), "neuron, by its current"),
            curves: vec![raster, Vec::new()],
            labels: Vec::new(),
        },
        Panel {
            title: String::new(),
            x: time,
            y: (around(points.iter().map(|p| p.1)), "potential (mV)"),
            curves: vec![Vec::new(), points],
            labels: Vec::new(),
        },
    ];
    (keys, panels)
}

/// A scale around numbers.
fn around(numbers: impl Iterator<Item = f64>) -> Scale {
    let (low, high) = numbers
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let margin = if high > low { 0.04 * (high - low) } else { 1.0 };
    Scale::Linear(low - margin, high + margin)
}
