//! What messages advise works, and what goes wrong in the middle of a run is told as what it is.

use crate::misuse::Place;

#[test]
fn remedies_of_the_messages_work() {
    let place = Place::new();
    for line in [
        "solve lorenz --out a --method bosh3",
        "solve lorenz --out b --method rk4 --h 0.015625",
        "solve lorenz --out c --method euler --h 0.015625",
        "solve lorenz --out d --rtol 1e-6",
        "solve lorenz --out e --max-steps 20000",
        "solve lorenz --out e --max-steps 20000",
        "solve lorenz --out e --max-steps 30000 --overwrite",
        "solve lorenz --out f --param rho=28 --y0 1,2,3",
        "solve lorenz --csv a-file --overwrite",
        "three-body --epochs 1 --no-plots --out g --method heun_euler --polish-tol 1e-5",
        "three-body --epochs 1 --no-plots --out solved --no-polish --overwrite",
        "classify train --out run --resume run/checkpoint.safetensors --epochs 1",
        "classify train --resume run --epochs 2",
        "classify train --resume run/best.safetensors --epochs 2 --out run",
        "classify test --checkpoint run",
        "solve lorenz --csv new/folder/a.csv",
        "solve lorenz --plot newer/a.png --json=newest/a.json",
        "classify test --resume run/best.safetensors --method rk4 --h 1",
        "classify test --resume run/best.safetensors",
        "tableau show rk4",
        "bench --workload mlp --reps 1 --gradient mali",
        "bench --reps 1 --gradient aca-budget --checkpoints 3",
    ] {
        let ran = place.aca(line);
        assert_eq!(ran.code, Some(0), "aca {line}: {}", ran.stderr);
    }
}

#[test]
fn a_stiff_solve_is_called_stiff_and_a_shorter_span_helps() {
    let place = Place::empty();
    let stiff = "solve van-der-pol --no-plots --out out --param mu=1000 --max-steps 1000 --t1";
    let refusal = place.aca(&format!("{stiff} 2000")).refused();
    assert!(refusal.contains("the problem is stiff"), "{refusal}");
    assert!(!refusal.contains("loosen"), "{refusal}");
    place.aca(&format!("{stiff} 0.1")).succeeded();
}

#[test]
fn a_training_that_diverges_says_where_after_which_loss_and_what_is_kept() {
    let place = Place::empty();
    let brief = "classify train --method euler --h 1 --batch-size 479 --out run --epochs";
    let ran = place.aca(&format!("{brief} 1 --lr 1e30"));
    let error = ran.stderr.trim_end();
    assert!(error.starts_with("error: training diverged in epoch 1, batch "), "{error}");
    for words in ["the last finite loss was ", "lower --lr", "--h 0.5", "has no checkpoint"] {
        assert!(error.contains(words), "no \"{words}\" in {error}");
    }
    place.aca(&format!("{brief} 1")).succeeded();
    let resume = "--resume run/checkpoint.safetensors";
    let ran = place.aca(&format!("{brief} 2 {resume} --lr 1e30"));
    let error = ran.stderr.trim_end();
    assert!(error.starts_with("error: training diverged in epoch 2, batch "), "{error}");
    assert!(error.ends_with(&format!("the last good checkpoint is kept: {resume}")), "{error}");
    place.aca(&format!("{brief} 2 {resume} --lr 1e-3")).succeeded();
}

#[test]
fn training_starts_with_a_header_that_says_which_images_are_learned() {
    let place = Place::empty();
    // Diverges in the second batch, so that it ends soon.
    let ran =
        place.aca("classify train --network node18 --method euler --h 1 --batch-size 3 --lr 1e30");
    let header = "\
network   node18, 11172810 parameters, 4 ODE blocks
data      the built-in digits, as --data was not given: 1437 images to train on and 360 to test, 1 x 8 x 8, 10 classes
gradient  aca
solver    euler, steps of 1, from t = 0 to 1
plan      12 epochs, 3 images per batch, learning rate 1e30, seed 0
threads   ";
    assert!(ran.stdout.starts_with(header), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nresults   runs/classify\n"), "{}", ran.stdout);
}
