use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Ran, aca, aca_in, example};

/// Solves into the folder `out` of `folder`, whatever is there.
fn solve(folder: &Path, system: &str, more: &[&str]) -> Ran {
    aca_in(folder, &[&["solve", system, "--out", "out", "--overwrite"], more].concat())
}

/// The table that a solve wrote: its columns' names and its rows.
fn table(folder: &Path) -> (Vec<String>, Vec<Vec<f64>>) {
    let mut csv = csv::Reader::from_path(folder.join("out/trajectory.csv")).unwrap();
    let names = csv.headers().unwrap().iter().map(str::to_owned).collect();
    (names, csv.deserialize().map(Result::unwrap).collect())
}

#[test]
fn table_has_the_requested_times_and_named_columns() {
    let folder = TempDir::new().unwrap();
    solve(folder.path(), "lotka-volterra", &["--points", "5", "--no-plots"]).succeeded();
    let (names, rows) = table(folder.path());
    assert_eq!(names, ["t", "prey", "predators"]);
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [0.0, 2.5, 5.0, 7.5, 10.0]);
    assert_eq!(rows[0][1..], [1.5, 1.5]);
}

#[test]
fn linear_decay_is_the_exponential_function() {
    let folder = TempDir::new().unwrap();
    let tolerances = ["--rtol", "1e-10", "--atol", "1e-12", "--no-plots"];
    solve(folder.path(), "linear-decay", &tolerances).succeeded();
    let (_, rows) = table(folder.path());
    assert_eq!(rows.len(), 1000);
    for row in rows {
        let (error, bound) = ((row[1] - (-row[0]).exp()).abs(), 1e-9);
        assert!(error < bound, "{error:e} at t = {}, ten times rtol is {bound:e}", row[0]);
    }
}

#[test]
fn picture_of_every_system_is_a_png_with_ink() {
    let folder = TempDir::new().unwrap();
    for system in [
        "three-body",
        "lotka-volterra",
        "van-der-pol",
        "lorenz",
        "cubic-spiral",
        "linear-decay",
        "bouncing-ball",
        "thrown-ball",
        "neuron",
    ] {
        solve(folder.path(), system, &["--points", "3"]).succeeded();
        let file = BufReader::new(File::open(folder.path().join("out/trajectory.png")).unwrap());
        let mut png = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; png.output_buffer_size().unwrap()];
        let info = png.next_frame(&mut pixels).unwrap();
        assert!(info.width >= 800 && info.height >= 400, "{system}: {info:?}");
        let dark = pixels.chunks_exact(3).filter(|rgb| rgb.iter().all(|&part| part < 128)).count();
        assert!(dark > 300, "{system}: {dark} dark pixels");
    }
}

#[test]
fn no_plots_writes_the_table_alone() {
    let folder = TempDir::new().unwrap();
    solve(folder.path(), "lorenz", &["--no-plots"]).succeeded();
    let mut files: Vec<_> =
        fs::read_dir(folder.path().join("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["config.toml", "trajectory.csv"]);
}

#[test]
fn json_has_all_figures_of_the_solve() {
    let folder = TempDir::new().unwrap();
    let json = solve(folder.path(), "van-der-pol", &["--json", "--no-plots"]).json();
    let Value::Object(summary) = json else { panic!("{json}") };
    let keys: Vec<_> = summary.keys().map(String::as_str).collect();
    let expected = [
        "system",
        "method",
        "params",
        "y0",
        "t0",
        "t1",
        "accepted",
        "rejected",
        "nfe",
        "h_smallest",
        "h_largest",
        "seconds",
        "y1",
    ];
    assert_eq!(keys, expected);
    let (_, rows) = table(folder.path());
    let y1 = summary["y1"].as_array().unwrap().iter().map(|y| y.as_f64().unwrap());
    // serde_json may read the last bit wrong.
    let differ = |(x, y): (f64, &f64)| (x - y).abs() > f64::EPSILON * y.abs();
    assert!(!y1.zip(&rows.last().unwrap()[1..]).any(differ), "{summary:?}");
    assert_eq!((&summary["system"], &summary["t1"]), (&"van-der-pol".into(), &20.0.into()));
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert!(count("nfe") >= 6 * (count("accepted") + count("rejected")), "{summary:?}");
}

#[test]
fn picture_changes_no_figure() {
    let folder = TempDir::new().unwrap();
    let nfe = |more: &[&str]| {
        let args = [&["--json", "--method", "dop853", "--points", "2"], more].concat();
        solve(folder.path(), "lorenz", &args).json()["nfe"].clone()
    };
    assert_eq!(nfe(&[]), nfe(&["--no-plots"]));
}

#[test]
fn time_runs_backward() {
    let folder = TempDir::new().unwrap();
    let json = solve(folder.path(), "linear-decay", &["--t0", "1", "--t1", "-1", "--json"]).json();
    let y1 = json["y1"][0].as_f64().unwrap();
    assert!((y1 - 2f64.exp()).abs() < 1e-4, "{y1}");
}

#[test]
fn method_of_a_file_solves_adaptively() {
    let folder = TempDir::new().unwrap();
    let file = example();
    let args = ["--method", file.to_str().unwrap(), "--json", "--no-plots"];
    let json = solve(folder.path(), "linear-decay", &args).json();
    assert_eq!(json["method"], "ralston3");
    assert!((json["y1"][0].as_f64().unwrap() - (-5f64).exp()).abs() < 1e-5, "{json}");
}

#[test]
fn fixed_method_needs_a_step() {
    assert_eq!(
        aca(&["solve", "lorenz", "--method", "rk4"]).refused(),
        "error: rk4 has no embedded error estimate, so it needs a fixed step; give one by --h, or take an adaptive method \
         such as dopri5"
    );
}

#[test]
fn fixed_method_takes_steps_of_the_given_size() {
    let folder = TempDir::new().unwrap();
    let args = ["--method", "rk4", "--h", "0.25", "--json", "--no-plots"];
    let json = solve(folder.path(), "linear-decay", &args).json();
    assert_eq!((&json["accepted"], &json["h_largest"]), (&20.into(), &0.25.into()));
}

#[test]
fn unknown_method_is_refused_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let error = solve(folder.path(), "lorenz", &["--method", "tsit"]).refused();
    let text = "error: unknown method \"tsit\"; did you mean tsit5 (tsitouras), ";
    assert!(error.starts_with(text) && error.contains("`aca tableau list`"), "{error}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("out"), "a file").unwrap();
    let error = solve(folder.path(), "lorenz", &[]).refused();
    assert!(error.starts_with("error: cannot create out: "), "{error}");
}

#[test]
fn span_without_length_and_negative_numbers_are_named() {
    let text = aca(&["solve", "lorenz", "--t1", "0", "--no-plots"]).refused();
    assert!(text.contains("the span begins and ends at 0; give another end by --t1"), "{text}");
    let text = aca(&["solve", "lorenz", "--rtol", "-1", "--no-plots"]).refused();
    assert!(text.contains("rtol") && text.contains("-1"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_do_not_fit_on_a_disk_are_an_error() {
    use std::process::{Command, Stdio};

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut aca = Command::new(env!("CARGO_BIN_EXE_aca"));
    let aca = aca.args(["tableau", "list"]).stdout(Stdio::from(full)).output().unwrap();
    let text = String::from_utf8(aca.stderr).unwrap();
    assert!(!aca.status.success() && text.contains("cannot write the standard output"), "{text}");
}

#[test]
fn negative_numbers_are_read_in_every_spelling() {
    let folder = TempDir::new().unwrap();
    for (text, t0) in [("-1", -1.0), ("-1e-3", -1e-3), ("-.5", -0.5), ("-1E+0", -1.0)] {
        let joined = format!("--t0={text}");
        for start in [&["--t0", text][..], &[joined.as_str()]] {
            let options = [start, &["--t1", "0.5", "--points", "2", "--no-plots"]].concat();
            solve(folder.path(), "linear-decay", &options).succeeded();
            assert_eq!(table(folder.path()).1[0][0], t0, "{text}");
        }
    }
    let refusal = solve(folder.path(), "linear-decay", &["--t0", "-inf"]).refused();
    assert!(refusal.contains("the span -inf to 5 is not finite"), "{refusal}");
    let refusal = solve(folder.path(), "linear-decay", &["--rtol", "-1e-6"]).refused();
    assert!(refusal.contains("rtol"), "{refusal}");
}

#[test]
fn option_without_its_number_does_not_take_the_next_option_for_it() {
    for options in [["--t0", "--points", "3"], ["--points", "3", "--t0"]] {
        let folder = TempDir::new().unwrap();
        let ran = solve(folder.path(), "linear-decay", &options);
        assert_eq!(ran.code, Some(2), "{options:?}: {}", ran.stderr);
        let text = "a value is required for '--t0 <T0>' but none was supplied";
        assert!(ran.stderr.contains(text), "{options:?}: {}", ran.stderr);
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn negative_numbers_of_options_that_count_are_refused_by_their_range() {
    let ran = aca(&["solve", "linear-decay", "--points", "-3"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("invalid value '-3' for '--points <POINTS>'"), "{}", ran.stderr);
}

#[test]
fn a_span_of_a_few_numbers_is_drawn_and_no_more_points_than_it_has() {
    let folder = TempDir::new().unwrap();
    let span = ["--t0", "1", "--t1", "1.0000000000001", "--points"];
    solve(folder.path(), "linear-decay", &[&span[..], &["10"]].concat()).succeeded();
    assert_eq!(table(folder.path()).1.len(), 10);
    let refusal = solve(folder.path(), "linear-decay", &[&span[..], &["5000"]].concat()).refused();
    assert!(refusal.contains("give fewer by --points"), "{refusal}");
}

#[test]
fn tolerances_of_fixed_steps_are_refused() {
    let folder = TempDir::new().unwrap();
    let options = ["--method", "rk4", "--h", "0.1", "--atol", "1e-6"];
    let refusal = solve(folder.path(), "linear-decay", &options).refused();
    assert!(refusal.starts_with("error: rk4 takes fixed steps, which --atol"), "{refusal}");
}

#[test]
fn output_times_of_robertson_grow_by_a_constant_factor() {
    let folder = TempDir::new().unwrap();
    solve(folder.path(), "robertson", &["--method", "kvaerno5", "--points", "12"]).succeeded();
    let (_, rows) = table(folder.path());
    assert_eq!((rows[0][0], rows[11][0]), (0.0, 1e5));
    for (i, row) in rows.iter().enumerate().skip(1) {
        let expected = 1e-5 * 10f64.powi(i as i32 - 1);
        assert!((row[0] - expected).abs() < 1e-9 * expected, "{} for {expected}", row[0]);
    }
    let more = ["--method", "kvaerno5", "--points", "3", "--equal-times"];
    solve(folder.path(), "robertson", &more).succeeded();
    assert_eq!(table(folder.path()).1[1][0], 5e4);
    let refusal = solve(folder.path(), "lorenz", &["--log-times", "30"]).refused();
    assert!(refusal.contains("--log-times 30") && refusal.contains("--equal-times"), "{refusal}");
}

#[test]
fn a_span_without_end_is_named() {
    let folder = TempDir::new().unwrap();
    let refusal = solve(folder.path(), "linear-decay", &["--t1", "inf"]).refused();
    assert!(refusal.contains("not finite"), "{refusal}");
}

/// The events that a solve wrote: names of the columns, and rows.
fn events(folder: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let mut csv = csv::Reader::from_path(folder.join("out/events.csv")).unwrap();
    let names = csv.headers().unwrap().iter().map(str::to_owned).collect();
    (names, csv.deserialize().map(Result::unwrap).collect())
}

#[test]
fn bounces_of_a_ball_are_listed() {
    let folder = TempDir::new().unwrap();
    let more = ["--no-plots", "--rtol", "1e-10", "--t1", "5"];
    let ran = solve(folder.path(), "bouncing-ball", &more);
    ran.succeeded();
    let (names, rows) = events(folder.path());
    assert_eq!(names[..4], ["t", "event", "sample", "height_before"]);
    let first = (10.0f64 / 9.81).sqrt();
    let expected = [1.0, 2.6, 3.88, 4.904].map(|n| n * first);
    assert_eq!(rows.len(), 4);
    for (row, expected) in rows.iter().zip(expected) {
        let t: f64 = row[0].parse().unwrap();
        assert!((t - expected).abs() < 1e-8, "{t} for {expected}");
        assert_eq!(row[1], "bounce");
    }
}

#[test]
fn throw_ends_where_the_ball_comes_down() {
    let folder = TempDir::new().unwrap();
    solve(folder.path(), "thrown-ball", &["--no-plots", "--param", "drag=0"]).succeeded();
    let (_, rows) = events(folder.path());
    let at = |i: usize| rows[i][0].parse::<f64>().unwrap();
    assert_eq!([&rows[0][1], &rows[1][1]], ["apex", "ground"]);
    assert!((at(0) - 15.0 / 9.81).abs() < 1e-7, "apex at {}", at(0));
    let down = (15.0 + (225.0f64 + 2.0 * 9.81 * 1.5).sqrt()) / 9.81;
    assert!((at(1) - down).abs() < 1e-6, "ground at {}, not {down}", at(1));
    let (_, table) = table(folder.path());
    assert!(table.iter().all(|row| row[0] <= at(1) && row.iter().all(|y| y.is_finite())));
}

#[test]
fn neurons_spike_the_more_the_higher_their_current() {
    let folder = TempDir::new().unwrap();
    let options = ["--no-plots", "--points", "3", "--t1", "100"];
    let text = solve(folder.path(), "neuron", &options).succeeded();
    for words in ["rejected, of 100 samples\n", ", each of all samples\n", " (first sample)\n"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let (names, rows) = table(folder.path());
    assert_eq!((names.len(), rows.len()), (201, 3));
    let (_, rows) = events(folder.path());
    let count = |sample: &str| rows.iter().filter(|row| row[2] == sample).count();
    assert!(count("100") > count("50") && count("50") > count("1"), "{} spikes", rows.len());
}
