//! Parameters, initial states and outputs of `aca solve`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::tempdir;

use crate::common::aca_in;

/// Runs `aca solve` with the words of a line; returns what it printed.
fn solve(folder: &Path, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    aca_in(folder, &[&["solve"], &words[..]].concat()).succeeded()
}

fn last_line(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn parameters_and_initial_state_reach_the_solve() {
    let folder = tempdir().unwrap();
    let line = "linear-decay --param k=2 --y0 -3 --t1 1 --rtol 1e-9 --atol 1e-12 --no-plots --json";
    let summary = last_line(&solve(folder.path(), line));
    let (y1, exact) = (summary["y1"][0].as_f64().unwrap(), -3.0 * (-2f64).exp());
    assert!((y1 - exact).abs() < 1e-7, "{y1}, exactly {exact}");
    assert_eq!((&summary["params"]["k"], &summary["y0"][0]), (&2.0.into(), &(-3.0).into()));
    let text = solve(folder.path(), "van-der-pol --param mu=2 --y0 -1,2 --no-plots --out other");
    assert!(text.contains("parameters   mu = 2\n"), "{text}");
}

#[test]
fn a_table_and_a_picture_go_where_the_user_says() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    solve(folder.path(), "lorenz --points 5 --csv a.csv --plot b.png --json=c.json");
    assert!(fs::read(at("b.png")).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(fs::read_to_string(at("a.csv")).unwrap().lines().count(), 6);
    let json: Value = serde_json::from_slice(&fs::read(at("c.json")).unwrap()).unwrap();
    let (t, y) = (json["t"].as_array().unwrap(), json["y"].as_array().unwrap());
    assert_eq!((t.len(), y.len(), &json["system"]), (5, 5, &"lorenz".into()));
    assert!(!at("runs").exists());
}

#[test]
fn results_are_replaced_by_the_same_settings_or_when_told() {
    let folder = tempdir().unwrap();
    let refused = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        aca_in(folder.path(), &[&["solve"], &words[..]].concat()).refused()
    };
    for _ in 0..2 {
        solve(folder.path(), "lorenz --no-plots");
    }
    let error = refused("lorenz --no-plots --rtol 1e-10");
    let expected = "error: runs/solve/lorenz holds results of `aca solve lorenz` with rtol = 1e-6, not 1e-10; give another \
                    --out, or replace it by --overwrite";
    assert_eq!(error, expected);
    solve(folder.path(), "lorenz --no-plots --rtol 1e-10 --overwrite");
    fs::write(folder.path().join("config.toml"), "a = 1").unwrap();
    let error = refused("lorenz --no-plots --out .");
    assert!(error.contains(". holds config.toml, which this command did not write"), "{error}");
}

#[test]
fn a_solution_that_overflows_is_told_as_one() {
    let folder = tempdir().unwrap();
    let words = ["solve", "cubic-spiral", "--y0", "1e200,0", "--method", "dopri5"];
    let error = aca_in(folder.path(), &words).refused();
    assert!(error.contains("overflows") || error.contains("singular"), "{error}");
}
