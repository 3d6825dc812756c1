//! `aca three-body --seeds`.

use std::fs;

use tempfile::tempdir;

use crate::common::{aca, aca_in};

/// Options of fits that are done at once.
pub const BRIEF: [&str; 7] =
    ["three-body", "--epochs", "3", "--no-polish", "--no-plots", "--out", "run"];

/// The table of an ensemble, without the columns that tell who was how fast.
pub fn table(csv: &str) -> Vec<Vec<String>> {
    let rows = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| [&row[..1], &row[2..10], &row[11..]].concat()).collect()
}

#[test]
fn the_seed_with_the_smallest_sum_of_squares_is_kept() {
    let folder = tempdir().unwrap();
    let args = [&BRIEF[..], &["--seeds", "2..6", "--json"]].concat();
    let kept = aca_in(folder.path(), &args).json();
    let read = |name: &str| fs::read_to_string(folder.path().join("run").join(name)).unwrap();
    let rows = table(&read("ensemble.csv"));
    assert_eq!(rows[0][..2], ["seed", "m1"]);
    let seeds: Vec<_> = rows[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(seeds, ["2", "3", "4", "5"]);
    let sum = |row: &Vec<String>| row[5].parse::<f64>().unwrap();
    let best = rows[1..].iter().min_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap();
    assert_eq!(kept["best_sum_sq"].as_f64(), Some(sum(best)));
    assert!(read("config.toml").contains(&format!("seed = {}\n", best[0])));
}

#[test]
fn a_fit_that_fails_is_a_line_and_fails_the_run_only_where_all_do() {
    let folder = tempdir().unwrap();
    let hopeless = ["--seeds", "0..2", "--rtol", "1e-300", "--atol", "1e-300"];
    let ran = aca_in(folder.path(), &[&BRIEF[..], &hopeless].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("none of the 2 fits succeeded; the first said: "),
        "{}",
        ran.stderr
    );
    let csv = fs::read_to_string(folder.path().join("run/ensemble.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn seeds_that_are_none_are_refused() {
    for seeds in ["4..4", "5..2", "7", "a..b"] {
        let ran = aca(&["three-body", "--seeds", seeds]);
        assert!(ran.stderr.contains("such as 0..64"), "{seeds}: {}", ran.stderr);
    }
}
