//! `aca three-body` and `aca bench`.

use std::fs;

use tempfile::TempDir;

use crate::common::{aca, aca_in, aca_on_small_disk};

#[test]
fn masses_are_recovered_from_a_wrong_valley_too() {
    // Seed 2: Adam ends half a mass away; the polish must find the way back from the early orbits.
    for seed in ["0", "2"] {
        let found = aca(&["three-body", "--seed", seed, "--no-plots", "--json"]).json();
        let error = found["max_mass_error"].as_f64().unwrap();
        assert!(error <= 1e-7, "seed {seed}: mass error {error:e}, bound 1e-7");
        let keys = [
            "masses",
            "best_sum_sq",
            "seconds",
            "nfe_forward",
            "nfe_backward",
            "accepted",
            "rejected",
        ];
        assert!(keys.iter().all(|key| !found[key].is_null()), "{found}");
        let adam = ["max_mass_error", "best_sum_sq", "best_epoch"];
        assert!(adam.iter().all(|key| !found["adam"][key].is_null()), "{found}");
    }
}

#[test]
fn run_that_fails_leaves_the_records_of_an_earlier_one() {
    let folder = TempDir::new().unwrap();
    let run = |more: &[&str]| {
        let args = ["three-body", "--epochs", "2", "--no-polish", "--no-plots", "--out", "run"];
        aca_in(folder.path(), &[&args[..], more].concat())
    };
    run(&[]).succeeded();
    let read = || {
        ["metrics.csv", "config.toml", "best.safetensors"]
            .map(|name| fs::read(folder.path().join("run").join(name)).unwrap())
    };
    // The same settings replace their own results.
    run(&[]).succeeded();
    let before = read();
    run(&["--overwrite", "--rtol", "-1"]).refused();
    run(&["--rtol", "1e-6"]).refused();
    assert!(read() == before, "a refused run changed the records of an earlier one");
}

#[test]
fn run_leaves_its_table_masses_settings_and_pictures() {
    let folder = TempDir::new().unwrap();
    let args = ["three-body", "--epochs", "3", "--no-polish", "--out", "run"];
    aca_in(folder.path(), &args).succeeded();
    let bytes = |name: &str| fs::read(folder.path().join("run").join(name)).unwrap();
    let table = String::from_utf8(bytes("metrics.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 3, "a header and a line per epoch");
    assert!(String::from_utf8(bytes("config.toml")).unwrap().contains("seed = 0"));
    assert!(!bytes("best.safetensors").is_empty());
    for png in ["trajectory.png", "loss.png"] {
        assert_eq!(&bytes(png)[1..4], b"PNG");
    }
    let film = bytes("orbits.gif");
    assert_eq!(&film[..6], b"GIF89a");
    assert!(film.len() < 3_000_000, "{} bytes, bound 3 MB", film.len());
}

#[test]
fn a_method_of_low_order_fits_and_predicts_by_its_own_settings() {
    let args = ["three-body", "--method", "bosh3", "--epochs", "1", "--no-plots", "--json"];
    let found = aca(&[&args[..], &["--polish-tol", "1e-9"]].concat()).json();
    let error = found["max_mass_error"].as_f64().unwrap();
    assert!(error < 1e-6, "mass error {error:e}, bound 1e-6");
}

#[test]
fn bench_prints_the_fields_of_the_peers() {
    let found = aca(&["bench", "--workload", "three_body", "--reps", "1", "--json"]).json();
    let keys = ["ms_forward", "ms_gradient", "nfe", "loss", "grad_norm", "grad_head", "note"];
    assert!(keys.iter().all(|key| !found[key].is_null()), "{found}");
    assert_eq!((&found["workload"], &found["peer"]), (&"three_body".into(), &"aca".into()));
}

#[test]
fn a_method_without_an_error_estimate_is_refused() {
    let error = aca(&["three-body", "--method", "rk4"]).refused();
    assert!(error.contains("rk4 estimates no error") && error.contains("dopri5"), "{error}");
}

#[test]
fn options_of_another_workload_are_refused() {
    for (option, value, owner) in [
        ("--mu-max", Some("3"), "vdp"),
        ("--per-sample", None, "vdp"),
        ("--pth", Some("x"), "node18"),
    ] {
        let words = ["bench", "--workload", "mlp", option].into_iter().chain(value);
        let text = aca(&words.collect::<Vec<_>>()).refused();
        assert!(text.contains(&format!("{option} belongs to --workload {owner}")), "{text}");
    }
}

#[test]
fn a_disk_that_is_full_in_the_polish_is_named_and_leaves_no_results_of_another_run() {
    let folder = TempDir::new().unwrap();
    let args = ["three-body", "--epochs", "2", "--no-polish", "--no-plots", "--out", "run"];
    aca_in(folder.path(), &args).succeeded();
    // Files may grow to 4 KiB only: enough for the epochs, too little for the polish after them.
    let args = ["three-body", "--epochs", "2", "--no-plots", "--out", "run", "--overwrite"];
    let ran = aca_on_small_disk(folder.path(), 4, &args);
    assert!(ran.code != Some(0) && ran.stderr.contains("run/metrics.csv"), "{}", ran.stderr);
    assert!(!folder.path().join("run/best.safetensors").exists());
}

#[test]
fn a_checkpoint_that_lacks_most_of_the_network_starts_no_bench() {
    let folder = TempDir::new().unwrap();
    let partial = concat!(env!("CARGO_MANIFEST_DIR"), "/../aca-models/tests/fixtures/best.pth");
    let args = ["bench", "--workload", "node18", "--reps", "1", "--pth", partial];
    let refusal = aca_in(folder.path(), &args).refused();
    assert!(refusal.contains("of the network's tensors, the first is conv1.weight"), "{refusal}");
}

#[test]
fn names_are_understood_with_either_dash() {
    for workload in ["three_body", "three-body"] {
        let args = ["bench", "--workload", workload, "--reps", "1", "--json"];
        assert!(aca(&args).json()["ms_gradient"].as_f64().is_some_and(|ms| ms > 0.0), "{workload}");
    }
}
