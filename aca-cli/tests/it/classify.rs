//! Training, testing and comparing classifiers, as a user does it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use aca_models::training::{Checkpoint, TrainPlan};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::common::{Ran, aca_in, aca_on_small_disk};

/// Trains as briefly as the command line allows, into `run` of `folder`.
fn train(folder: &Path, more: &[&str]) -> Ran {
    let brief = ["classify", "train", "--out", "run", "--method", "euler", "--h", "1"];
    aca_in(folder, &[&brief[..], more].concat())
}

const LAST: &str = "run/checkpoint.safetensors";
const ONE: [&str; 4] = ["--epochs", "1", "--batch-size", "128"];

fn trained() -> TempDir {
    let folder = tempdir().unwrap();
    train(folder.path(), &ONE).succeeded();
    folder
}

fn load(path: &Path) -> Checkpoint {
    Checkpoint::load(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Names and bits of all tensors of a checkpoint.
fn bits(path: &Path) -> Vec<(String, Vec<u32>)> {
    let bits = |(name, tensor): (&String, &candle_core::Tensor)| {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name.clone(), numbers.into_iter().map(f32::to_bits).collect())
    };
    load(path).tensors.iter().map(bits).collect()
}

/// Starts a training and waits for its first checkpoint.
fn start(folder: &Path, epochs: &str) -> Child {
    let words = ["classify", "train", "--out", "run", "--method", "euler", "--h", "1"];
    let plan = ["--batch-size", "128", "--epochs", epochs, "--overwrite"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_aca"));
    command.current_dir(folder).args(words).args(plan);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !folder.join(LAST).exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
        sleep(Duration::from_millis(20));
    }
    child
}

/// Presses Ctrl-C and waits for the end.
fn interrupt(child: Child) -> (bool, String) {
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_image_alone_in_the_last_batch_is_refused_before_anything_is_written() {
    let folder = tempdir().unwrap();
    // 1437 images: 359 batches of four and one of one.
    let error = train(folder.path(), &["--network", "resnet18", "--batch-size", "4"]).refused();
    assert!(error.contains("1437 images in batches of 4 leave one image alone"), "{error}");
    assert!(error.ends_with("give another batch size"), "{error}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_run_leaves_checkpoints_metrics_and_events() {
    let folder = tempdir().unwrap();
    let json = train(folder.path(), &[&ONE[..], &["--json"]].concat()).json();
    for key in ["test_accuracy", "train_accuracy", "best_epoch", "seconds", "images_per_second"] {
        assert!(json[key].is_number(), "{key} in {json}");
    }
    let run = folder.path().join("run");
    assert_eq!(load(&run.join("checkpoint.safetensors")).about.history.len(), 1);
    assert_eq!(bits(&run.join("best.safetensors")), bits(&run.join("checkpoint.safetensors")));
    let metrics = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(metrics.starts_with("epoch,lr,train_loss,train_accuracy,test_loss"), "{metrics}");
    assert_eq!(metrics.lines().count(), 2);
    assert!(fs::metadata(run.join("events.out.tfevents.aca")).unwrap().len() > 100);
}

#[test]
fn a_resumed_run_ends_with_the_numbers_of_one_that_never_stopped() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    // The schedule depends on the number of epochs: both runs want two.
    let plan = ["--epochs", "2", "--batch-size", "128"];
    train(path, &plan).succeeded();
    fs::rename(path.join("run"), path.join("whole")).unwrap();
    interrupt(start(path, "2"));
    train(path, &["--resume", LAST]).succeeded();
    let end = |run: &str| bits(&path.join(run).join("checkpoint.safetensors"));
    assert!(end("run") == end("whole"));
}

#[test]
fn a_run_goes_on_in_the_folder_of_its_checkpoint() {
    let folder = trained();
    let resume = |more: &[&str]| {
        let words = ["classify", "train", "--resume", "run"];
        aca_in(folder.path(), &[&words[..], more].concat()).succeeded()
    };
    let text = resume(&[]);
    let line = "run/checkpoint.safetensors already has 1 of 1 epochs, so nothing is trained; give more by --epochs, such as \
                --epochs 2\n";
    assert!(text.contains(line), "{text}");
    let text = resume(&["--epochs", "2"]);
    assert!(!text.contains("nothing is trained") && text.contains("results   run\n"), "{text}");
    assert_eq!(load(&folder.path().join(LAST)).about.history.len(), 2);
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn help_shows_the_presets_that_a_network_and_its_images_choose() {
    let folder = tempdir().unwrap();
    let (digits, cifar) = (TrainPlan::digits(), TrainPlan::cifar());
    let choice = |digits: usize, cifar: usize| {
        format!("[default: {digits} on the digits, {cifar} on CIFAR]")
    };
    for command in ["train", "compare"] {
        let help = aca_in(folder.path(), &["classify", command, "--help"]).succeeded();
        for words in [
            choice(digits.epochs, cifar.epochs),
            choice(digits.batch_size, cifar.batch_size),
            format!("[default: {}]; on the digits", digits.lr),
            "[default: 0.1 for the network digits, 0.01 for others]".to_owned(),
            "[default: heun_euler; alf with --gradient mali]".to_owned(),
            "[default: 50000]".to_owned(),
        ] {
            assert!(help.contains(&words), "no {words} in {help}");
        }
    }
    assert_eq!(digits.lr, cifar.lr);
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let folder = tempdir().unwrap();
    let (success, error) = interrupt(start(folder.path(), "500"));
    assert!(
        !success && error.contains("go on with --resume run/checkpoint.safetensors"),
        "{error}"
    );
    load(&folder.path().join("run/checkpoint.safetensors"));
}

#[test]
fn a_run_killed_at_any_moment_leaves_checkpoints_that_load() {
    let folder = tempdir().unwrap();
    for wait in [0, 7, 31, 64] {
        let mut child = start(folder.path(), "500");
        sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        for name in ["checkpoint.safetensors", "best.safetensors"] {
            let path = folder.path().join("run").join(name);
            if path.exists() {
                load(&path);
            }
        }
        fs::remove_file(folder.path().join("run/checkpoint.safetensors")).unwrap();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_the_old_checkpoint() {
    let folder = trained();
    let checkpoint = folder.path().join("run/checkpoint.safetensors");
    let old = fs::read(&checkpoint).unwrap();
    // Files may grow to 50 KiB only: enough for tables, too little for a checkpoint.
    let args = ["classify", "train", "--out", "run", "--method", "euler", "--h", "1", "--epochs"];
    let args = [&args[..], &["1", "--overwrite"]].concat();
    let error = aca_on_small_disk(folder.path(), 50, &args).stderr;
    assert!(error.contains("cannot write run/checkpoint.safetensors"), "{error}");
    assert_eq!(fs::read(&checkpoint).unwrap(), old);
    assert!(!folder.path().join("run/checkpoint.safetensors.partial").exists());
}

#[test]
fn checking_gradients_changes_nothing_that_is_learned() {
    let (plain, checked) = (trained(), tempdir().unwrap());
    let ran = train(checked.path(), &[&ONE[..], &["--check-gradient", "1"]].concat());
    let shown = ran.succeeded();
    assert!(shown.contains("epoch   1: a batch's gradient differs by"), "{shown}");
    assert_eq!(bits(&plain.path().join(LAST)), bits(&checked.path().join(LAST)));
}

#[test]
fn a_trained_network_is_tested_with_its_own_and_with_other_solvers() {
    let folder = trained();
    let test = ["classify", "test", "--checkpoint", "run/checkpoint.safetensors", "--json"];
    let own = aca_in(folder.path(), &test).json();
    assert_eq!(own["trained"], true);
    let history = load(&folder.path().join("run/checkpoint.safetensors")).about.history;
    let accuracy = own["test_accuracy"].as_f64().unwrap();
    assert_eq!(accuracy, history[0].test.accuracy());
    let other = [&test[..], &["--method", "dopri5", "--rtol", "1e-3"]].concat();
    let other = aca_in(folder.path(), &other).json();
    assert_eq!(
        (&other["trained"], &other["method"]),
        (&Value::from(false), &Value::from("dopri5"))
    );
    assert!(other["nfe"].as_f64() > own["nfe"].as_f64());
}

#[test]
fn show_lists_every_parameter_and_their_sum() {
    let folder = tempdir().unwrap();
    let resnet = ["classify", "show", "--network", "resnet18"];
    let text = aca_in(folder.path(), &resnet).succeeded();
    assert!(text.lines().last().unwrap().ends_with("11173962"), "{text}");
    assert!(text.contains("64 x 3 x 3 x 3"), "{text}");
}

#[test]
fn what_cannot_be_used_is_refused_with_its_remedy() {
    let folder = trained();
    fs::write(folder.path().join("bad.safetensors"), "no tensors").unwrap();
    let refused = |args: &[&str], words: &str| {
        let error = aca_in(folder.path(), &[&["classify"], args].concat()).refused();
        assert!(error.contains(words), "{args:?}: {error}");
    };
    let resume = ["train", "--resume", "run/checkpoint.safetensors"];
    refused(
        &["train", "--out", "run"],
        "run holds a finished run, digits on digits: 1 of 1 epochs",
    );
    refused(&["train", "--method", "rk4"], "needs a fixed step; give one by --h");
    refused(&["train", "--dataset", "cifar10"], "name it with --data");
    refused(&["train", "--data", "nowhere"], "nowhere is not a directory");
    refused(&["train", "--data", "run"], "lacks data_batch_1.bin");
    refused(
        &["train", "--batch-size", "2000"],
        "a batch of 2000 images is larger than the 1437 images",
    );
    // A run that fails in its first epoch leaves no folder.
    let ran = aca_in(folder.path(), &["classify", "train", "--out", "new/er", "--lr", "1e30"]);
    assert!(ran.code == Some(1) && !folder.path().join("new").exists(), "{}", ran.stderr);
    refused(&["train", "--resume", "bad.safetensors"], "bad.safetensors is no checkpoint");
    refused(&["train", "--resume", "none.safetensors"], "cannot read none.safetensors");
    refused(&[&resume[..], &["--network", "squeezenext"]].concat(), "digits, not squeezenext");
    refused(&["train", "--lr=-1"], "learning rate of -1");
}

#[test]
fn every_solver_has_a_row_and_a_curve() {
    let folder = trained();
    let words = ["classify", "test", "--resume", "run/best.safetensors", "--all-solvers"];
    aca_in(folder.path(), &[&words[..], &["--out", "all"]].concat()).succeeded();
    let mut csv = csv::Reader::from_path(folder.path().join("all/solvers.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 32);
    // Trained by one step of Euler's method over the span.
    let trained: Vec<_> = rows.iter().filter(|row| &row[7] == "true").collect();
    assert_eq!((trained.len(), &trained[0][0], &trained[0][1]), (1, "euler", "1.0"));
    assert!(folder.path().join("all/solvers.png").exists());
}

#[test]
fn a_comparison_trains_every_contestant_with_every_seed() {
    let folder = tempdir().unwrap();
    let words = ["classify", "compare", "--runs", "2", "--out", "out", "--json"];
    let json = aca_in(folder.path(), &[&words[..], &ONE].concat()).json();
    let names = ["aca", "naive", "backsolve", "plain"];
    for (row, name) in json.as_array().unwrap().iter().zip(names) {
        assert_eq!(row["contestant"], name);
        assert_eq!(row["accuracies"].as_array().unwrap().len(), 2);
        assert!(row["reliability"].is_number(), "{row}");
        assert_eq!(
            load(&folder.path().join(format!("out/{name}-1")).join("best.safetensors"))
                .about
                .plan
                .seed,
            1
        );
    }
    for file in ["compare.csv", "epochs.csv", "compare.png", "compare.svg"] {
        assert!(folder.path().join("out").join(file).exists(), "{file}");
    }
    let again = aca_in(folder.path(), &words).refused();
    assert!(again.contains("out holds a finished comparison; give another --out"), "{again}");
}

#[test]
fn a_run_that_fails_leaves_the_records_of_an_earlier_one() {
    let folder = trained();
    let records = ["metrics.csv", "events.out.tfevents.aca", "checkpoint.safetensors"];
    let read = || records.map(|name| fs::read(folder.path().join("run").join(name)).unwrap());
    let before = read();
    let ran = train(folder.path(), &[&ONE[..], &["--lr", "1e30", "--overwrite"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(read() == before, "a refused run changed the records of an earlier one");
}

#[test]
fn a_run_resumed_elsewhere_takes_its_best_epoch_along() {
    let folder = trained();
    let elsewhere = |more: &[&str]| {
        let brief = ["classify", "train", "--out", "other", "--overwrite", "--resume", LAST];
        aca_in(folder.path(), &[&brief[..], more].concat())
    };
    let best = || bits(&folder.path().join("other/best.safetensors"));
    // Nothing is left to do: what there is goes along all the same.
    elsewhere(&["--epochs", "1"]).succeeded();
    assert_eq!(best(), bits(&folder.path().join(LAST)));
    // An epoch that learns nothing is not the best, and another run's best epoch is not this one's.
    let stale =
        ["classify", "train", "--out", "other", "--method", "euler", "--h", "1", "--seed", "9"];
    aca_in(folder.path(), &[&stale[..], &ONE, &["--overwrite"]].concat()).succeeded();
    assert_ne!(best(), bits(&folder.path().join(LAST)));
    elsewhere(&["--epochs", "2", "--lr", "1e-12"]).succeeded();
    let history = load(&folder.path().join("other/checkpoint.safetensors")).about.history;
    let is_best = history[1].test.accuracy() > history[0].test.accuracy();
    let kept = load(&folder.path().join("other/best.safetensors")).about.history;
    assert_eq!(kept, history[..if is_best { 2 } else { 1 }]);
}

#[test]
fn tolerances_of_fixed_steps_are_refused() {
    let folder = TempDir::new().unwrap();
    let args = ["classify", "train", "--method", "rk4", "--h", "0.5", "--rtol", "1e-3"];
    let refusal = aca_in(folder.path(), &args).refused();
    assert!(refusal.starts_with("error: rk4 takes fixed steps, which --rtol"), "{refusal}");
}
