//! Ranks that are processes. Each claim is a test that starts this program again by `mpirun`, and
//! there runs the ignored test of the same name in [`ranks`].

use std::{
    env,
    process::{Command, Output},
};

mod ranks;

/// Runs a test of [`ranks`] in so many processes.
fn holds(name: &str, processes: usize) {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--allow-run-as-root", "--oversubscribe", "-n", &processes.to_string()]);
    mpirun.arg(env::current_exe().unwrap());
    mpirun.args(["--exact", &format!("communicator::mpi::ranks::{name}"), "--ignored"]);
    // Ranks on few cores, each with many threads, would wait for each other.
    mpirun.args(["--test-threads", "1", "--color", "never"]).env("RAYON_NUM_THREADS", "1");
    let Output { status, stdout, stderr } = mpirun.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.matches("test result: ok. 1 passed").count(), processes, "{stdout}");
}

#[test]
fn sums_follow_the_order_of_the_ranks() {
    holds("sums_follow_the_order_of_the_ranks", 3);
}

#[test]
fn tensors_of_both_types_and_of_many_buckets_arrive() {
    holds("tensors_of_both_types_and_of_many_buckets_arrive", 2);
}

#[test]
fn every_rank_gets_the_tensors_of_the_root() {
    holds("every_rank_gets_the_tensors_of_the_root", 2);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    holds("what_cannot_be_sent_is_refused", 2);
}

#[test]
fn two_ranks_have_the_gradients_of_one_with_twice_the_batch() {
    holds("two_ranks_have_the_gradients_of_one_with_twice_the_batch", 2);
}

#[test]
fn two_ranks_have_the_losses_of_one_over_twenty_steps() {
    holds("two_ranks_have_the_losses_of_one_over_twenty_steps", 2);
}

#[test]
fn ranks_that_train_a_network_count_every_image_once() {
    holds("ranks_that_train_a_network_count_every_image_once", 2);
}
