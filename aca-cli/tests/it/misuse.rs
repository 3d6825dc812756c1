//! Every command misused: one clear message, no panic.

use std::fs;
use std::path::Path;

use tempfile::{TempDir, tempdir};

use crate::common::{Ran, aca_in};

/// A folder with what misuses need: a trained network, a solve, and files that are not what they should be.
pub struct Place(TempDir);

/// A line of the table: what the user types, and words that the message must hold.
type Misuse = (&'static str, &'static [&'static str]);

impl Place {
    /// A folder without anything.
    pub fn empty() -> Self {
        Self(tempdir().unwrap())
    }

    pub fn new() -> Self {
        let place = Self::empty();
        let brief = "classify train --method euler --h 1 --epochs 1 --batch-size 479 --out run";
        place.aca(brief).succeeded();
        place.aca("solve linear-decay --no-plots --out solved").succeeded();
        place.write("a-file", "text");
        place.write("bad.toml", "name = 3");
        place.write("bad.safetensors", "no tensors");
        fs::create_dir(place.path().join("empty")).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs `aca` with the words of a line.
    pub fn aca(&self, line: &str) -> Ran {
        aca_in(self.path(), &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Refuses each line with one message that holds the words, and leaves what is there.
    fn refuses(&self, table: &[Misuse]) {
        for (line, words) in table {
            let ran = self.aca(line);
            let message = message(line, &ran);
            for word in *words {
                assert!(message.contains(word), "aca {line}: no \"{word}\" in: {message}");
            }
        }
        for result in ["out", "runs"] {
            assert!(!self.path().join(result).exists(), "a refused command left {result}");
        }
    }
}

/// The one message of a run that failed.
fn message(line: &str, ran: &Ran) -> String {
    let Ran { code, stdout, stderr } = ran;
    assert!(matches!(code, Some(1 | 2)), "aca {line}: code {code:?}, {stdout}{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "aca {line}: {stderr}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "aca {line}: {stderr}");
    assert_eq!(stdout, "", "aca {line} began before it was refused");
    // Messages of the command line's own parser go on with the usage below.
    let message = stderr.split("\n\nUsage").next().unwrap_or_default();
    assert!(message.trim_end().lines().count() == 1 || *code == Some(2), "aca {line}: {stderr}");
    let longest = message.split(|c: char| !c.is_ascii_digit() && c != '.').map(str::len).max();
    assert!(longest <= Some(20), "aca {line}: a number of {longest:?} digits in {message}");
    message.to_owned()
}

const PARSED: [Misuse; 24] = [
    ("slove lorenz", &["unrecognized subcommand 'slove'", "solve"]),
    ("solve", &["required arguments", "<SYSTEM>"]),
    ("solve lorentz", &["'lorentz'", "lorenz"]),
    ("solve lorenz --points 1", &["'1' for '--points <POINTS>'", "2..=1000000"]),
    ("solve lorenz --points many", &["--points"]),
    ("solve lorenz --t1 end", &["--t1"]),
    ("solve lorenz --toll 3", &["unexpected argument '--toll'"]),
    ("solve lorenz --param rho", &["such as mu=100"]),
    ("solve lorenz --param rho=x", &["such as mu=100"]),
    ("solve lorenz --param rho=inf", &["such as mu=100"]),
    ("solve lorenz --y0 1;2;3", &["--y0"]),
    ("solve lorenz --csv a --out b", &["--csv", "--out"]),
    ("solve lorenz --plot a --no-plots", &["--plot", "--no-plots"]),
    ("solve lorenz --threads 0", &["--threads", "1..=1024"]),
    ("three-body --epochs 0", &["--epochs"]),
    ("three-body --seeds 5..2", &["such as 0..64"]),
    ("three-body --seed 1 --seeds 0..2", &["--seed", "--seeds"]),
    ("three-body --distributed", &["--seeds"]),
    ("three-body --no-polish --polish-tol 1e-8", &["--no-polish", "--polish-tol"]),
    ("gradcheck --problem liner", &["'liner'", "linear"]),
    ("classify train --gradient acca", &["'acca'", "aca", "aca-budget", "mali"]),
    ("classify train --mode fast --gradient aca", &["--mode", "--gradient"]),
    ("classify train --scale-lr", &["--distributed"]),
    ("bench --overhead --per-sample", &["--overhead", "--per-sample"]),
];

const SOLVE: [Misuse; 31] = [
    (
        "solve lorenz --out out --method bogacki",
        &["did you mean bosh3 (bogacki_shampine)", "tableau list"],
    ),
    ("solve lorenz --out out --method dormand", &["did you mean dopri5 (dormand_prince)"]),
    ("solve lorenz --out out --method rk99", &["\"rk99\"", "rk4"]),
    ("solve lorenz --out out --method velocity", &["did you mean verlet"]),
    ("solve lorenz --out out --method autoswitch", &["did you mean auto (automatic)"]),
    ("solve lorenz --out out --method none.toml", &["cannot read none.toml"]),
    ("solve lorenz --out out --method bad.toml", &["bad.toml, line 1"]),
    (
        "solve lorenz --out out --method rk4",
        &["rk4 has no embedded error estimate", "--h", "dopri5"],
    ),
    (
        "solve lorenz --out out --method rk4 --h 0.1 --rtol 1e-6",
        &["--rtol does not change", "leave it out"],
    ),
    ("solve lorenz --out out --method rk4 --h 0", &["--h is 0", "above 0"]),
    ("solve lorenz --out out --h -0.1", &["--h is -0.1", "direction"]),
    ("solve lorenz --out out --h nan", &["--h is NaN"]),
    ("solve lorenz --out out --rtol 1e10", &["--rtol is 1e10", "below 1"]),
    ("solve lorenz --out out --rtol -1", &["--rtol is -1", "1e-6"]),
    ("solve lorenz --out out --rtol 0", &["--rtol is 0", "above 0"]),
    ("solve lorenz --out out --atol inf", &["--atol is inf", "finite"]),
    ("solve lorenz --out out --atol -1e-300", &["--atol is -1e-300"]),
    ("solve lorenz --out out --t1 0", &["begins and ends at 0", "--t1"]),
    ("solve lorenz --out out --t1 nan", &["0 to NaN is not finite"]),
    ("solve lorenz --out out --t0 -1e300 --t1 inf", &["-1e300 to inf is not finite"]),
    ("solve lorenz --out out --max-steps 0", &["--max-steps 0"]),
    ("solve lorenz --out out --max-steps 10", &["--max-steps 10", "raise --max-steps"]),
    (
        "solve lorenz --out out --method rk4 --h 1e-9",
        &["fixed steps", "--max-steps is 10000", "larger --h"],
    ),
    (
        "solve lorenz --out out --method euler --h 0.5",
        &["euler with --h 0.5 overflows", "--h 0.015625"],
    ),
    ("solve lorenz --out out --param mu=3", &["lorenz has no parameter mu", "rho = 28"]),
    ("solve lorenz --out out --y0 1,2", &["--y0 has 2 numbers", "x, y, z"]),
    ("solve lorenz --out out --y0 1,nan,2", &["--y0 is NaN"]),
    (
        "solve lorenz --out out --param rho=2 --param sigma=1 --param rho=3",
        &["rho twice, 2 and 3", "give it once"],
    ),
    ("solve lorenz --csv a-file/x.csv", &["cannot create a-file"]),
    ("solve lorenz --csv a-file", &["a-file exists", "--overwrite"]),
    ("solve lorenz --out a-file/x", &["a-file/x"]),
];

const THREE_BODY: [Misuse; 9] = [
    ("three-body --out out --method rk4", &["rk4 estimates no error", "dopri5"]),
    ("three-body --out out --method dormand", &["did you mean dopri5"]),
    ("three-body --out out --rtol 1e10", &["--rtol is 1e10"]),
    ("three-body --out out --atol 0", &["--atol is 0"]),
    ("three-body --out out --polish-tol 2", &["--polish-tol is 2"]),
    (
        "three-body --out out --method heun_euler",
        &["heun_euler", "raise --max-steps", "--polish-tol"],
    ),
    ("three-body --out out --max-steps 5", &["--max-steps 5", "--polish-tol 1e-10"]),
    (
        "three-body --out out --no-polish --max-steps 5",
        &["--max-steps 5", "--rtol and --atol 1e-7"],
    ),
    (
        "three-body --out solved",
        &["solved holds results of `aca solve linear-decay`", "--overwrite"],
    ),
];

const CLASSIFY: [Misuse; 36] = [
    (
        "classify train --out run",
        &["run holds a finished run, digits on digits: 1 of 1 epochs", "--resume run --epochs 2,"],
    ),
    ("classify train --out out --method rk4", &["rk4 has no embedded", "--h"]),
    ("classify train --out out --method dorpi5", &["did you mean dopri5"]),
    ("classify train --out out --method rk4 --h 1 --atol 1e-3", &["--atol does not change"]),
    ("classify train --out out --rtol 1e10", &["--rtol is 1e10"]),
    ("classify train --out out --h 0", &["--h is 0"]),
    ("classify train --out out --t1 0", &["begins and ends at 0"]),
    ("classify train --out out --t1 inf", &["not finite"]),
    ("classify train --out out --lr 0", &["learning rate of 0"]),
    ("classify train --out out --lr -1e-10", &["learning rate of -1e-10"]),
    ("classify train --out out --batch-size 0", &["batches of 0 images"]),
    ("classify train --out out --batch-size 2000", &["2000 images", "1437"]),
    ("classify train --out out --network resnet18 --batch-size 4", &["leave one image alone"]),
    ("classify train --out out --dataset cifar10", &["name it with --data"]),
    ("classify train --out out --data nowhere", &["nowhere is not a directory"]),
    ("classify train --out out --data empty", &["empty lacks data_batch_1.bin"]),
    (
        "classify train --out out --checkpoints 3",
        &["--checkpoints belongs to --gradient aca-budget"],
    ),
    (
        "classify train --out out --gradient mali --method dopri5",
        &["mali undoes", "leave --method out"],
    ),
    (
        "classify train --out out --method kvaerno5",
        &["kvaerno5 takes implicit steps", "heun_euler"],
    ),
    (
        "classify compare --out out --method tr_bdf2",
        &["tr_bdf2 takes implicit steps", "heun_euler"],
    ),
    (
        "classify train --resume run --epochs 0",
        &["run/checkpoint.safetensors has 1 epochs already", "--epochs 2"],
    ),
    ("classify train --resume empty", &["cannot read empty/checkpoint.safetensors"]),
    (
        "classify train --resume run/best.safetensors --epochs 2",
        &["run holds checkpoint.safetensors, which", "--resume run --epochs 2", "--out run"],
    ),
    ("classify test --checkpoint empty", &["no checkpoint empty/best.safetensors"]),
    ("classify test --checkpoint run --method rk4", &["--h"]),
    ("classify train --out out --method alf", &["--gradient mali and naive"]),
    (
        "classify train --out out --gradient naive-through-step-size",
        &["batch norms", "--gradient naive or aca"],
    ),
    ("classify train --out out --resume none.safetensors", &["cannot read none.safetensors"]),
    ("classify train --out out --resume bad.safetensors", &["bad.safetensors is no checkpoint"]),
    (
        "classify train --out out --resume run/best.safetensors --network squeezenext",
        &["digits, not squeezenext"],
    ),
    (
        "classify test",
        &["no checkpoint runs/classify/best.safetensors", "aca classify train", "--checkpoint"],
    ),
    ("classify test --resume bad.safetensors", &["bad.safetensors is no checkpoint"]),
    ("classify test --resume run/best.safetensors --method rk99", &["\"rk99\""]),
    ("classify test --resume run/best.safetensors --method rk4", &["--h"]),
    ("classify compare --out out --rtol 2", &["--rtol is 2"]),
    ("classify compare --out out --method alf", &["steps of alf", "another --method"]),
];

const OTHERS: [Misuse; 15] = [
    ("classify compare --out out --batch-size 0", &["batches of 0 images"]),
    ("classify compare --out out --data nowhere", &["nowhere is not a directory"]),
    ("classify show --pth none.pth", &["none.pth"]),
    ("classify show --classes 0", &["--classes"]),
    ("tableau show rk99", &["\"rk99\"", "tableau list"]),
    ("tableau check none.toml", &["cannot read none.toml"]),
    ("tableau check bad.toml", &["bad.toml, line 1"]),
    (
        "gradcheck --problem linear --out solved",
        &["solved holds results of `aca solve linear-decay`"],
    ),
    ("bench --method rk4", &["rk4 estimates no error", "dopri5"]),
    ("bench --workload mlp --rtol 0", &["--rtol is 0"]),
    ("bench --workload mlp --per-sample", &["--per-sample belongs to --workload vdp"]),
    ("bench --workload vdp --mu-max -1", &["--mu-max is -1"]),
    ("bench --checkpoints 3", &["--gradient aca-budget"]),
    ("bench --gradient mali --method dopri5", &["mali undoes"]),
    ("bench --max-steps 5 --reps 1", &["--max-steps 5", "raise --max-steps"]),
];

#[test]
fn a_hundred_misuses_are_refused_in_one_message_that_names_the_remedy() {
    let place = Place::new();
    let tables: [&[Misuse]; 5] = [&PARSED, &SOLVE, &THREE_BODY, &CLASSIFY, &OTHERS];
    assert!(tables.iter().map(|table| table.len()).sum::<usize>() >= 100);
    tables.iter().for_each(|table| place.refuses(table));
}
