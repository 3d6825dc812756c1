//! Files of a solve: in the folder of its results, or where the user says.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Setup, Solved, Summary, happenings};
use crate::args::SolveArgs;
use crate::plot::{self, Trajectory};
use crate::report::{Error, Refusal, Result};
use crate::results::{Results, check_files, make_folder_of};

/// What a solve writes.
pub struct Outputs<'a> {
    folder: Option<Results<'a>>,
    csv: Option<PathBuf>,
    plot: Option<PathBuf>,
    events: Option<PathBuf>,
    json: Option<&'a Path>,
    /// The picture of a solve that is replaced by one without a picture.
    stale: Option<PathBuf>,
    /// Whether the summary is the last line that is printed.
    pub prints_json: bool,
}

/// The settings that a trajectory follows from.
#[derive(Serialize)]
struct Config<'a> {
    params: Vec<f64>,
    y0: &'a [f64],
    t0: f64,
    t1: f64,
    points: u32,
    /// Empty where times are equally spaced.
    log_times: Vec<f64>,
    method: &'a str,
    /// Empty where none was given.
    h: Vec<f64>,
    rtol: f64,
    atol: f64,
    max_steps: usize,
}

/// A summary with its trajectory.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    t: &'a [f64],
    y: &'a [Vec<f64>],
}

const TABLE: &str = "trajectory.csv";
const PICTURE: &str = "trajectory.png";
const EVENTS: &str = "events.csv";

/// Fewer points than this make curves look angular.
const SMOOTH: u32 = 4000;

impl<'a> Outputs<'a> {
    /// Looks whether the files may be written, in the folder `out`, which is made for them, or by their names.
    pub fn claim(args: &'a SolveArgs, out: &'a Path, setup: &Setup) -> Result<Self> {
        let json = args.json.as_deref().filter(|path| *path != Path::new("-"));
        let prints_json = args.json.is_some() && json.is_none();
        let named = [&args.csv, &args.plot].into_iter().flatten();
        check_files(named.chain(args.json.as_ref().filter(|_| json.is_some())), args.overwrite)?;
        if args.csv.is_some() || args.plot.is_some() {
            let (csv, plot) = (args.csv.clone(), args.plot.clone());
            return Ok(Self {
                folder: None,
                csv,
                plot,
                events: None,
                json,
                stale: None,
                prints_json,
            });
        }
        let (command, config) =
            (format!("aca solve {}", setup.problem.name), Config::new(args, setup));
        let place = (out, "config.toml");
        let events = setup.problem.watched.as_ref().map(|_| EVENTS);
        let files: Vec<&str> = [TABLE, PICTURE].into_iter().chain(events).collect();
        let folder = Results::claim(&command, place, &config, &files, args.overwrite)?;
        let events = events.map(|events| out.join(events));
        let (csv, plot) = (out.join(TABLE), (!args.no_plots).then(|| out.join(PICTURE)));
        let stale = Some(out.join(PICTURE));
        let stale = stale.filter(|path| args.overwrite && args.no_plots && path.exists());
        Ok(Self { folder: Some(folder), csv: Some(csv), plot, events, json, stale, prints_json })
    }

    /// Writes all files; returns their paths.
    pub fn write(
        &self,
        setup: &Setup,
        solution: &Solved,
        summary: &Summary,
    ) -> Result<Vec<PathBuf>> {
        if let Some(folder) = &self.folder {
            folder.begin()?;
        }
        if let Some(stale) = &self.stale {
            fs::remove_file(stale).map_err(Error::file("remove", stale))?;
        }
        let files = [self.csv.as_deref(), self.events.as_deref(), self.plot.as_deref(), self.json];
        let files: Vec<_> = files.into_iter().flatten().collect();
        files.iter().try_for_each(|path| make_folder_of(path))?;
        if let Some(path) = &self.csv {
            write_csv(path, setup, solution)?;
        }
        if let Some(path) = &self.events {
            write_events(path, setup.problem.names, solution)?;
        }
        if let Some(path) = &self.plot {
            draw(path, setup, solution, summary)?;
        }
        if let Some(path) = self.json {
            let whole = Whole { summary, t: &solution.ts, y: &solution.ys };
            let text = serde_json::to_string(&whole).unwrap_or_default();
            fs::write(path, text + "\n").map_err(Error::file("write", path))?;
        }
        Ok(files.into_iter().map(Path::to_owned).collect())
    }
}

impl<'a> Config<'a> {
    fn new(args: &'a SolveArgs, setup: &'a Setup) -> Self {
        let (t0, t1) = setup.span;
        Self {
            params: setup.problem.params.iter().map(|(_, value)| *value).collect(),
            y0: &setup.problem.y0,
            t0,
            t1,
            points: args.points,
            log_times: setup.problem.log_times.into_iter().collect(),
            method: &args.method,
            h: args.h.into_iter().collect(),
            rtol: setup.tolerance.rtol,
            atol: setup.tolerance.atol,
            max_steps: args.max_steps,
        }
    }
}

/// Draws the solution, solved once more where its points are too few for a picture.
fn draw(path: &Path, setup: &Setup, solution: &Solved, summary: &Summary) -> Result<()> {
    let smooth = solution.ts.len() >= SMOOTH as usize;
    // A span too short for so many times is drawn as it was tabulated.
    let smoother = match smooth {
        true => None,
        false => match setup.solve(SMOOTH) {
            Err(Error::Refusal(Refusal::PointsTooClose { .. })) => None,
            smoother => Some(smoother?),
        },
    };
    let solution = smoother.as_ref().unwrap_or(solution);
    if let Some(watched) = &setup.problem.watched {
        return happenings::draw(path, &setup.problem, watched, solution);
    }
    let (ts, ys) = (&solution.ts[..], &solution.ys[..]);
    let log_from = setup.problem.log_times.map(|_| setup.span.0);
    let trajectory = Trajectory { ts, ys, names: setup.problem.names, log_from };
    let Summary { method, accepted, .. } = summary;
    let caption = format!("{}: {accepted} steps of {method}", setup.problem.title);
    plot::trajectory(path, &trajectory, setup.problem.portrait, &caption)
}

fn write_csv(path: &Path, setup: &Setup, solution: &Solved) -> Result<()> {
    let names = setup.problem.names;
    let samples = setup.problem.watched.as_ref().map_or(1, |watched| watched.samples);
    let mut head = vec!["t".to_owned()];
    for sample in 1..=samples {
        head.extend(names.iter().map(|name| match samples {
            1 => (*name).to_owned(),
            _ => format!("{name}{sample}"),
        }));
    }
    let file = fs::File::create(path).map_err(Error::file("create", path))?;
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(&head)?;
    for (t, y) in solution.ts.iter().zip(&solution.ys) {
        csv.serialize((t, y))?;
    }
    csv.flush().map_err(Error::file("write", path))
}

/// Writes what happened, in the order of time within each sample.
fn write_events(path: &Path, names: &[&str], solution: &Solved) -> Result<()> {
    let file = fs::File::create(path).map_err(Error::file("create", path))?;
    let mut csv = csv::Writer::from_writer(file);
    let mut head: Vec<String> = ["t", "event", "sample"].map(str::to_owned).into();
    for when in ["before", "after"] {
        head.extend(names.iter().map(|name| format!("{name}_{when}")));
    }
    csv.write_record(&head)?;
    for own in &solution.happened {
        csv.serialize((own.t, own.event, own.sample + 1, &own.before, &own.after))?;
    }
    csv.flush().map_err(Error::file("write", path))
}
