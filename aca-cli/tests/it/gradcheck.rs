use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::aca_in;

const STRATEGIES: [&str; 5] = ["aca", "naive", "naive_through_step_size", "backsolve", "mali"];

/// What a quick check of one problem says.
fn quick(folder: &Path, problem: &str) -> Value {
    let args = ["gradcheck", "--quick", "--reps", "1", "--json", "--out", "out", "--problem"];
    aca_in(folder, &[&args[..], &[problem]].concat()).json()
}

/// The one row of a strategy with a method.
fn row<'a>(checked: &'a Value, strategy: &str, method: &str, rtol: f64) -> &'a Value {
    let rows = checked[strategy].as_array().unwrap();
    let fits = |row: &&Value| {
        row["method"] == method && row["rtol"] == rtol && row["problem"] != "van-der-pol-reverse"
    };
    rows.iter().find(fits).unwrap_or_else(|| panic!("no row of {strategy} {method} {rtol:e}"))
}

fn error(checked: &Value, strategy: &str, method: &str, rtol: f64) -> f64 {
    row(checked, strategy, method, rtol)["error"].as_f64().unwrap()
}

#[test]
fn json_holds_rows_of_all_five_strategies() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "linear");
    let names: Vec<&String> = checked.as_object().unwrap().keys().collect();
    assert_eq!(names, STRATEGIES);
    for strategy in STRATEGIES {
        let method = if strategy == "mali" { "alf" } else { "dopri5" };
        let row = row(&checked, strategy, method, 1e-3);
        assert_eq!((&row["problem"], &row["T"]), (&"linear".into(), &5.0.into()), "{strategy}");
        let error = row["error"].as_f64().unwrap();
        assert!(error < 1e-2, "{strategy} is off by {error:e} at rtol 1e-3 and T = 5, bound 1e-2");
        for count in ["nfe_forward", "accepted"] {
            assert!(row[count].as_u64().unwrap() > 0, "{strategy}: {count} is {}", row[count]);
        }
    }
}

#[test]
fn stiff_gradients_are_right_by_implicit_methods_in_few_steps() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "stiff");
    for method in ["kvaerno5", "esdirk4", "kvaerno3", "auto"] {
        let error = error(&checked, "aca", method, 1e-6);
        assert!(error < 1e-3, "{method} is off by {error:e}");
        let steps = |method| row(&checked, "aca", method, 1e-6)["accepted"].as_u64().unwrap();
        assert!(50 * steps(method) < steps("dopri5"), "{method}: {} steps", steps(method));
    }
    assert!(row(&checked, "backsolve", "dopri5", 1e-6)["error"].is_null());
    assert!(folder.path().join("out/stiff.png").exists());
}

#[test]
fn tables_and_figures_are_written() {
    let folder = TempDir::new().unwrap();
    quick(folder.path(), "linear");
    let table = fs::read_to_string(folder.path().join("out/gradcheck.csv")).unwrap();
    assert!(table.starts_with("problem,strategy,method,rtol,T,error,ms,"), "{table}");
    assert_eq!(table.lines().count(), 1 + 5 * 2, "five strategies over two spans: {table}");
    let png = fs::read(folder.path().join("out/linear.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"), "linear.png is no PNG");
    let svg = fs::read_to_string(folder.path().join("out/linear.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
}

#[test]
fn on_van_der_pol_backsolve_is_wrong_by_more_than_half_where_aca_is_right() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "van-der-pol");
    let backsolve = error(&checked, "backsolve", "dopri5", 1e-7);
    let aca = error(&checked, "aca", "dopri5", 1e-7);
    assert!(backsolve > 0.5, "backsolve is off by {backsolve:e} at 1e-7, expected over a half");
    assert!(aca < 1e-3, "aca is off by {aca:e} at 1e-7, bound 1e-3");
}

#[test]
fn replayed_checkpoints_repeat_the_forward_solve_exactly_and_a_solve_back_does_not() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "van-der-pol");
    let errors = |strategy: &str| -> Vec<f64> {
        let rows = checked[strategy].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["problem"] == "van-der-pol-reverse");
        rows.map(|row| row["error"].as_f64().unwrap()).collect()
    };
    assert_eq!(errors("aca"), [0.0, 0.0]);
    let solved = errors("backsolve");
    assert!(
        solved.iter().all(|&off| off > 1.0),
        "distances {solved:?}, expected a whole cycle off"
    );
    assert!(folder.path().join("out/van-der-pol-reverse.csv").is_file());
}

#[test]
fn on_three_bodies_naive_and_aca_find_the_same_gradient() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "three-body");
    let (aca, naive) =
        (error(&checked, "aca", "dopri5", 1e-7), error(&checked, "naive", "dopri5", 1e-7));
    let apart = (aca - naive).abs() / aca;
    assert!(apart < 1e-6, "aca is off by {aca}, naive by {naive}; both are the same gradient");
    let eighth = error(&checked, "aca", "dop853", 1e-7);
    assert!(eighth < aca, "dop853 is off by {eighth:e}, dopri5 by {aca:e} at the same tolerance");
}

#[test]
fn a_failed_solve_is_a_row_that_says_why() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "van-der-pol");
    let row = row(&checked, "mali", "alf", 1e-3);
    assert!(row["error"].is_null(), "{row}");
    let failure = row["failure"].as_str().unwrap();
    assert!(failure.starts_with("reached max_steps = 300000 at t = "), "{failure}");
}

#[test]
fn batches_with_clocks_of_their_own_are_in_the_json_too() {
    let folder = TempDir::new().unwrap();
    let args = ["gradcheck", "--problem", "samples", "--quick", "--reps", "1", "--json"];
    let found = aca_in(folder.path(), &[&args[..], &["--out", "out"]].concat()).json();
    let samples = found["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 6);
    assert!(samples.iter().all(|row| row["error"].as_f64().unwrap() < 1e-3), "{samples:?}");
    assert!(!folder.path().join("out/gradcheck.csv").exists());
}

#[test]
fn the_error_of_a_loss_is_told_beside_the_true_one() {
    let folder = TempDir::new().unwrap();
    let checked = quick(folder.path(), "trust");
    let rows = checked["trust"].as_array().unwrap();
    assert_eq!(rows.len(), 5 * 3, "five problems at three tolerances");
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("bound") > number("error") / 3.0, "{row}");
        assert!(number("cosine") <= 1.0 + 1e-12 && number("difference") >= 0.0, "{row}");
    }
    let table = fs::read_to_string(folder.path().join("out/trust.csv")).unwrap();
    assert!(table.starts_with("problem,rtol,error,signed,bound,"), "{table}");
    assert!(fs::read(folder.path().join("out/trust.png")).unwrap().starts_with(b"\x89PNG"));
}
