//! What `init` makes of the environment; a program of its own without the test harness, whose threads
//! it would not write beside. It runs itself once a claim, with another environment each time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail by panicking")]

use std::env;
use std::process::Command;
use std::thread;

const KEY: &str = "RAYON_NUM_THREADS";

/// A claim: its name, the variables at the start, and what has to hold.
type Claim = (&'static str, &'static [(&'static str, &'static str)], fn());

const CLAIMS: [Claim; 7] = [
    ("number_of_cores_is_set_where_there_is_none", &[], || {
        assert!(aca_core::init());
        assert_eq!(number(), cores());
    }),
    ("number_that_is_there_is_left_alone", &[(KEY, "7")], || {
        assert!(aca_core::init());
        assert_eq!(number(), "7");
    }),
    ("what_is_no_number_of_threads_is_replaced", &[(KEY, "0")], || {
        assert!(aca_core::init());
        assert_eq!(number(), cores());
    }),
    ("older_variable_of_rayon_counts", &[("RAYON_RS_NUM_CPUS", "3")], || {
        assert!(aca_core::init());
        assert_eq!(number(), "3");
    }),
    ("given_number_replaces_the_one_that_is_there", &[(KEY, "7")], || {
        assert!(aca_core::init_with_threads(5));
        assert_eq!(number(), "5");
    }),
    ("given_zero_stands_for_all_cores", &[(KEY, "7")], || {
        assert!(aca_core::init_with_threads(0));
        assert_eq!(number(), cores());
    }),
    ("environment_is_left_alone_beside_other_threads", &[], || {
        let other = thread::spawn(thread::park);
        // Only Linux lists threads.
        if cfg!(target_os = "linux") {
            assert!(!aca_core::init() && env::var_os(KEY).is_none());
        }
        other.thread().unpark();
        other.join().unwrap();
    }),
];

fn main() {
    let claimed = env::var("CLAIM").ok();
    if let Some((_, _, claim)) = CLAIMS.iter().find(|(name, ..)| claimed.as_deref() == Some(name)) {
        return claim();
    }
    for (name, variables, _) in CLAIMS {
        let mut own = Command::new(env::current_exe().unwrap());
        own.env_remove(KEY).env_remove("RAYON_RS_NUM_CPUS").env("CLAIM", name);
        let status = own.envs(variables.iter().copied()).status().unwrap();
        assert!(status.success(), "{name}");
        println!("{name} ... ok");
    }
}

fn number() -> String {
    env::var(KEY).unwrap()
}

fn cores() -> String {
    thread::available_parallelism().unwrap().to_string()
}
