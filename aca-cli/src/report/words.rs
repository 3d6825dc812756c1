//! The library's remedies in the words of the command line.
//!
//! What fails inside candle's graph arrives as text alone, so texts are what is translated.

/// Settings of the library, and the options of the same meaning; those without an option are left out.
const WORDS: [(&str, &str); 16] = [
    (
        "take Method::auto() or an implicit method such as KVAERNO5",
        "take an implicit method by --method auto or kvaerno5",
    ),
    ("reached max_steps = ", "reached --max-steps "),
    ("but max_steps = ", "but --max-steps is "),
    ("raise max_steps or loosen the tolerance", "raise --max-steps or loosen --rtol and --atol"),
    ("take larger steps or raise max_steps", "give a larger --h or raise --max-steps"),
    ("take larger steps, or count time from nearer to 0", "give a larger --h"),
    (
        "so it needs a fixed step; give h",
        "so it needs a fixed step; give one by --h, or take an adaptive method such as dopri5",
    ),
    (
        "give the solver Method::Leapfrog, Splitting::VERLET or Splitting::YOSHIDA4",
        "give --method alf, verlet or yoshida4",
    ),
    ("or use Gradient::Aca", "or --gradient aca"),
    ("use Gradient::Aca, a shorter span or f64", "take --gradient aca or a shorter span"),
    (
        "which only Mali and Naive differentiate; choose one of them, or another method",
        "which only --gradient mali and naive differentiate; take one of them, or another --method",
    ),
    ("bound Solver::h_max (to some units of the fastest decay), ", ""),
    ("bound Solver::h_max, ", ""),
    ("tighten the tolerance", "tighten --rtol and --atol"),
    (", or take the number all the same with Untrusted::Flag", ""),
    ("use Aca, which has no such limit", "take --gradient aca, which has no such limit"),
];

/// `text` with options in the place of the library's settings.
pub fn of_options(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (setting, option)| text.replace(setting, option))
}
