//! Commands in many processes.

#[cfg(not(feature = "mpi"))]
#[test]
fn many_processes_need_the_feature() {
    let one = ["three-body", "--seeds", "0..2"];
    for args in [&["classify", "train"][..], &one] {
        let error = crate::common::aca(&[args, &["--distributed"]].concat()).refused();
        assert!(error.contains("without MPI") && error.contains("--features mpi"), "{error}");
    }
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::fs::{self, File};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use aca_models::training::Checkpoint;
    use tempfile::tempdir;

    use crate::common::{Ran, aca_in};
    use crate::ensemble::{BRIEF, table};

    const TRAIN: [&str; 9] =
        ["classify", "train", "--distributed", "--out", "run", "--method", "euler", "--h", "1"];

    /// `mpirun` for two processes with one command, or one each.
    fn mpirun(folder: &Path, commands: &[Vec<&str>]) -> Command {
        let mut mpirun = Command::new("mpirun");
        mpirun.args(["--allow-run-as-root", "--oversubscribe"]).current_dir(folder);
        mpirun.env("RAYON_NUM_THREADS", "1");
        let processes = if commands.len() == 1 { "2" } else { "1" };
        for (i, command) in commands.iter().enumerate() {
            mpirun.args((i > 0).then_some(":")).args(["-n", processes]);
            mpirun.arg(env!("CARGO_BIN_EXE_aca")).args(command);
        }
        mpirun
    }

    fn run(folder: &Path, commands: &[Vec<&str>]) -> Ran {
        let output = mpirun(folder, commands).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ran { stdout, stderr, code: output.status.code() }
    }

    /// The one message of a run that all processes ended.
    fn message(ran: &Ran) -> &str {
        let mut errors = ran.stderr.lines().filter(|line| line.starts_with("error: "));
        let message = errors.next().unwrap_or_else(|| panic!("no message in {}", ran.stderr));
        assert_eq!((errors.next(), ran.code), (None, Some(1)), "{}", ran.stderr);
        message
    }

    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&TRAIN[..], more].concat()
    }

    #[test]
    fn two_processes_train_one_network_and_the_first_speaks() {
        let folder = tempdir().unwrap();
        let ran = run(folder.path(), &[with(&["--epochs", "2", "--json"])]);
        let stdout = ran.succeeded();
        for line in ["epoch   1: ", "epoch   2: ", "test accuracy  ", "{\"test_accuracy\""] {
            assert_eq!(stdout.matches(line).count(), 1, "{line} in {stdout}");
        }
        let checkpoint =
            Checkpoint::load(&folder.path().join("run/checkpoint.safetensors")).unwrap();
        let rows = &checkpoint.about.history;
        assert_eq!((checkpoint.about.ranks, rows.len()), (2, 2));
        assert_eq!((rows[1].train.images, rows[1].test.images), (1437, 360));
        assert!(rows[1].test.accuracy() > 0.8, "accuracy {}", rows[1].test.accuracy());
    }

    #[test]
    fn a_run_repeats_bit_for_bit() {
        let bytes = || {
            let folder = tempdir().unwrap();
            run(folder.path(), &[with(&["--epochs", "1"])]).succeeded();
            let path = folder.path().join("run/best.safetensors");
            let tensors = Checkpoint::load(&path).unwrap().tensors.into_iter();
            let numbers = tensors.map(|(_, x)| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            numbers.flatten().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert!(bytes() == bytes());
    }

    /// Waits until it is so, for half a minute.
    fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what} after 30 s");
            sleep(Duration::from_millis(20));
        }
    }

    /// The process that `mpirun` started as this rank.
    fn rank(mpirun: u32, rank: &str) -> Option<String> {
        let children = Command::new("pgrep").args(["-P", &mpirun.to_string()]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let is_rank = |process: &&str| {
            let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|text| text == format!("OMPI_COMM_WORLD_RANK={rank}").as_bytes())
        };
        children.lines().find(is_rank).map(str::to_owned)
    }

    #[test]
    fn a_killed_rank_ends_the_run_which_one_process_resumes() {
        let folder = tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let mut command = mpirun(folder.path(), &[with(&["--epochs", "500"])]);
        command.stdout(Stdio::null()).stderr(File::create(place("stderr")).unwrap());
        let mut started = command.spawn().unwrap();
        let checkpoint = place("run/checkpoint.safetensors");
        wait_for("no checkpoint", || checkpoint.exists());
        let second = rank(started.id(), "1").unwrap();
        Command::new("kill").args(["-9", &second]).status().unwrap();
        wait_for("the run goes on", || started.try_wait().unwrap().is_some());
        let stderr = fs::read_to_string(place("stderr")).unwrap();
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let expected = "error: another rank has failed, or the run was stopped from outside; go on with \
                        --resume run/checkpoint.safetensors";
        assert_eq!(errors, [expected], "{stderr}");
        let whole = Checkpoint::load(&checkpoint).unwrap().about.history.len();
        let epochs = (whole + 1).to_string();
        let resume = ["classify", "train", "--out", "run", "--resume"];
        let file = "run/checkpoint.safetensors";
        aca_in(folder.path(), &[&resume[..], &[file, "--epochs", &epochs]].concat()).succeeded();
        let about = Checkpoint::load(&checkpoint).unwrap().about;
        assert_eq!((about.history.len(), about.ranks), (whole + 1, 1));
    }

    #[test]
    fn processes_with_other_options_are_named() {
        let folder = tempdir().unwrap();
        let commands = [with(&["--epochs", "1"]), with(&["--epochs", "2"])];
        let ran = run(folder.path(), &commands);
        assert!(message(&ran).starts_with("error: rank 1 has other settings"), "{}", ran.stderr);
    }

    #[test]
    fn what_one_process_lacks_ends_all_with_its_message() {
        let folder = tempdir().unwrap();
        let lacks = with(&["--dataset", "cifar10", "--data", "nowhere"]);
        let ran = run(folder.path(), &[with(&[]), lacks]);
        let text = message(&ran);
        assert!(text.starts_with("error: rank 1: nowhere is not a directory"), "{text}");
    }

    #[test]
    fn a_full_disk_of_the_first_process_ends_all() {
        let folder = tempdir().unwrap();
        // What every epoch replaces is a directory, so it cannot be written.
        fs::create_dir_all(folder.path().join("run/checkpoint.safetensors/full")).unwrap();
        let ran = run(folder.path(), &[with(&["--epochs", "1", "--overwrite"])]);
        let text = message(&ran);
        assert!(text.starts_with("error: rank 0: cannot write run/checkpoint"), "{text}");
    }

    #[test]
    fn statistics_of_all_processes_need_a_fixed_step() {
        let folder = tempdir().unwrap();
        let sync = ["--sync-batch-norm", "--scale-lr", "--epochs", "1"];
        run(folder.path(), &[with(&sync)]).succeeded();
        let about = Checkpoint::load(&folder.path().join("run/best.safetensors")).unwrap().about;
        assert!(about.plan.sync_batch_norm && about.plan.scale_lr);
        let ran = run(folder.path(), &[[&TRAIN[..5], &sync, &["--overwrite"]].concat()]);
        let text = message(&ran);
        assert!(text.starts_with("error: rank 0: heun_euler adapts its steps"), "{text}");
    }

    #[test]
    fn an_ensemble_of_two_processes_is_that_of_one() {
        let folder = tempdir().unwrap();
        let csv = || fs::read_to_string(folder.path().join("run/ensemble.csv")).unwrap();
        let seeds = [&BRIEF[..], &["--seeds", "0..5"]].concat();
        aca_in(folder.path(), &seeds).succeeded();
        let alone = csv();
        let shared = run(folder.path(), &[[&seeds[..], &["--distributed"]].concat()]).succeeded();
        assert_eq!(table(&csv()), table(&alone));
        assert_eq!(shared.matches("best seed").count(), 1, "{shared}");
        let ranks = csv()
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(1) == Some("1"))
            .collect::<Vec<_>>();
        assert_eq!(ranks, [false, true, false, true, false]);
    }
}
