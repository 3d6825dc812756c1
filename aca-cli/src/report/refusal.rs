//! What the user asked for and cannot have, and what to ask for instead.

use std::path::PathBuf;

use aca_core::Number;
use aca_tableau::{ALL, aliases};

/// Why options are refused; each message states the fact with its values, then the options that help.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No method has the name.
    #[error(
        "unknown method \"{name}\"; did you mean {guesses}? `aca tableau list` shows the methods"
    )]
    UnknownMethod {
        /// The name.
        name: String,
        /// Names like it.
        guesses: String,
    },
    /// A method that is no Runge-Kutta method was to be shown.
    #[error("{method} is a method, but has no tableau; {instead}")]
    NoTableau {
        /// The method.
        method: String,
        /// What has one.
        instead: String,
    },
    /// A method with fixed steps was given where tolerances decide.
    #[error(
        "{method} estimates no error, but {command} steps by tolerances; take an adaptive --method such as dopri5"
    )]
    NotAdaptive {
        /// The method.
        method: String,
        /// The command.
        command: &'static str,
    },
    /// A tolerance was given for steps that follow none.
    #[error(
        "{method} takes fixed steps, which {option} does not change; leave it out, or take an adaptive method"
    )]
    FixedSteps {
        /// The option.
        option: &'static str,
        /// The method.
        method: String,
    },
    /// A number that an option cannot take.
    #[error("{option} is {}, but it must be {range}; give one such as {example}", Number(*value))]
    Range {
        /// The option.
        option: &'static str,
        /// Its value.
        value: f64,
        /// The values that it takes, in words.
        range: &'static str,
        /// One of them.
        example: &'static str,
    },
    /// An option belongs to the value of another one.
    #[error("{option} belongs to {owner}; leave it out, or give {owner}")]
    Belongs {
        /// The option.
        option: &'static str,
        /// The other option with its value.
        owner: &'static str,
    },
    /// A method of which no step can be undone was given to the strategy that undoes them.
    #[error(
        "--gradient mali undoes the steps of a solve, which is not possible for {method}; leave --method out, or take --gradient aca"
    )]
    NotReversible {
        /// The method.
        method: String,
    },
    /// Only two strategies differentiate leapfrog steps.
    #[error(
        "only --gradient mali and naive differentiate the steps of {method}; take one of them, or another --method"
    )]
    LeapfrogGradient {
        /// The method.
        method: String,
    },
    /// Not all contestants differentiate leapfrog steps.
    #[error(
        "aca and backsolve, which are compared, cannot differentiate the steps of {method}; take another --method"
    )]
    LeapfrogCompared {
        /// The method.
        method: String,
    },
    /// The graph through step sizes would hold rejected steps, which must not move running statistics.
    #[error(
        "--gradient naive-through-step-size cannot train networks with batch norms, as rejected steps would move their running \
         statistics; take --gradient naive or aca"
    )]
    RunningStatistics,
    /// There is nothing to solve over.
    #[error("the span begins and ends at {}; give another end by --t1, or another start by --t0", Number(*t))]
    EmptySpan {
        /// Both ends.
        t: f64,
    },
    /// The first of output times that grow does not lie inside the span.
    #[error(
        "--log-times {} is not above 0 and below the length of the span, {}; give a smaller one, or --equal-times",
        Number(*first), Number(*length)
    )]
    FirstTime {
        /// The first time after the start.
        first: f64,
        /// Length of the span.
        length: f64,
    },
    /// Times of outputs cannot be told apart.
    #[error(
        "{points} points between {} and {} are closer than numbers can tell apart; give fewer by --points, or a longer span",
        Number(*t0), Number(*t1)
    )]
    PointsTooClose {
        /// Number of the times.
        points: u32,
        /// Start of the span.
        t0: f64,
        /// End of the span.
        t1: f64,
    },
    /// Fixed steps left all numbers.
    #[error("{method} with --h {} overflows at t = {}; {remedy}", Number(*h), Number(*t))]
    BlownUp {
        /// The method.
        method: String,
        /// The step.
        h: f64,
        /// Where.
        t: f64,
        /// What helps.
        remedy: String,
    },
    /// Adaptive steps left all numbers.
    #[error("the solution overflows at t = {}; end the span before by --t1, or give another --y0", Number(*t))]
    Overflow {
        /// Where.
        t: f64,
    },
    /// A system has no such parameter.
    #[error("{system} has no parameter {name}; it has {known}")]
    NoParameter {
        /// The system.
        system: &'static str,
        /// The name asked for.
        name: String,
        /// Its parameters with their values.
        known: String,
    },
    /// A state has another number of entries.
    #[error(
        "--y0 has {got} numbers, but the state of {system} has {expected}: {names}; give one for each, separated by commas"
    )]
    StateLength {
        /// The system.
        system: &'static str,
        /// Numbers given.
        got: usize,
        /// Numbers needed.
        expected: usize,
        /// Names of the entries.
        names: String,
    },
    /// CIFAR was asked for without its place.
    #[error("the binary files of CIFAR lie in a directory; name it with --data")]
    NoDataDirectory,
    /// There is nothing to test.
    #[error(
        "there is no checkpoint {}; train a network by `aca classify train`, or name a checkpoint by --checkpoint",
        path.display()
    )]
    NothingTrained {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A run has more epochs than it is to have.
    #[error(
        "{} has {done} epochs already, more than --epochs {epochs}; give a larger number, such as --epochs {}",
        path.display(),
        done + 1
    )]
    EpochsDone {
        /// The checkpoint.
        path: PathBuf,
        /// The epochs that it has.
        done: usize,
        /// The epochs asked for.
        epochs: usize,
    },
    /// An implicit method would couple all images of a batch.
    #[error(
        "{method} takes implicit steps, which need the Jacobian of a whole batch, as batch norms couple its images; take an \
         explicit --method such as heun_euler"
    )]
    ImplicitTraining {
        /// The method.
        method: String,
    },
    /// A parameter was given twice.
    #[error("--param gives {name} twice, {} and {}; give it once", Number(*first), Number(*second))]
    Repeated {
        /// The parameter.
        name: String,
        /// The value given first.
        first: f64,
        /// The value given next.
        second: f64,
    },
    /// Results of another run lie where this one would write.
    #[error("{} holds {what}; {remedy}", path.display())]
    Holds {
        /// The folder or file.
        path: PathBuf,
        /// What is there.
        what: String,
        /// The ways on.
        remedy: String,
    },
    /// A file of the user's name is there.
    #[error("{} exists; give another name, or replace it by --overwrite", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The predicted orbits take more steps than allowed.
    #[error(
        "{method} reaches t = {} of the predicted orbits, which end at 2, in --max-steps {max_steps} at {tolerance}; raise \
         --max-steps, loosen {option}, or take a --method of higher order such as dopri5",
        Number(*t)
    )]
    Prediction {
        /// The method.
        method: String,
        /// Where it stands.
        t: f64,
        /// The budget.
        max_steps: usize,
        /// The options of the tolerance, and its value.
        tolerance: String,
        /// The options alone.
        option: &'static str,
    },
}

impl Refusal {
    /// Names methods that look like an unknown one, `nearest` first, each with a longer name of its own.
    pub fn unknown_method(name: String, nearest: &[&str]) -> Self {
        let long = |guess: &&str| {
            let tableau = ALL.into_iter().find(|tableau| tableau.name() == *guess);
            match tableau.and_then(|tableau| aliases(tableau).first()) {
                Some(alias) => format!("{guess} ({alias})"),
                None => (*guess).to_owned(),
            }
        };
        let plain = name.to_lowercase().replace(['-', '_', ' '], "");
        let begins = |(whole, _): &&(&str, &str)| {
            plain.get(..4).is_some_and(|start| whole.starts_with(start))
        };
        let other = OTHERS.iter().find(begins).map(|(whole, method)| format!("{method} ({whole})"));
        let guesses: Vec<String> = other.into_iter().chain(nearest.iter().map(long)).collect();
        Self::UnknownMethod { name, guesses: either(&guesses) }
    }
}

/// Methods without a tableau, by words that people know them by.
const OTHERS: [(&str, &str); 6] = [
    ("automatic", "auto"),
    ("leapfrog", "alf"),
    ("asynchronous leapfrog", "alf"),
    ("verlet", "verlet"),
    ("velocity verlet", "verlet"),
    ("yoshida", "yoshida4"),
];

/// "a, b or c".
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
