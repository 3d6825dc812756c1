use crate::{
    BOSH3, CASH_KARP, DOP853, DOPRI5, ESDIRK4, EULER, FEHLBERG45, HEUN, HEUN_EULER, IMPLICIT_EULER,
    KVAERNO3, KVAERNO4, KVAERNO5, MIDPOINT, RALSTON, RK4, RK4_38, TR_BDF2, TRAPEZOID, TSIT5,
    Tableau, TableauError,
};

/// Every built-in explicit method, by rising order.
pub const ALL: [&Tableau; 13] = [
    &EULER,
    &MIDPOINT,
    &HEUN,
    &RALSTON,
    &HEUN_EULER,
    &BOSH3,
    &RK4,
    &RK4_38,
    &FEHLBERG45,
    &CASH_KARP,
    &DOPRI5,
    &TSIT5,
    &DOP853,
];

/// Every built-in diagonally implicit method, by rising order.
pub const IMPLICIT: [&Tableau; 7] =
    [&IMPLICIT_EULER, &TRAPEZOID, &TR_BDF2, &KVAERNO3, &KVAERNO4, &ESDIRK4, &KVAERNO5];

/// Every built-in method.
fn all() -> impl Iterator<Item = &'static Tableau> {
    ALL.into_iter().chain(IMPLICIT)
}

/// The built-in method of that name or alias.
///
/// Case does not matter, nor do spaces and any of `- _ . ( ) /`: "RK4(5)" and "rk45" are the same.
///
/// # Errors
/// [`TableauError::UnknownName`], which lists the names that look most like this one.
///
/// # Example
/// ```
/// let tableau = aca_tableau::by_name("RK45")?;
/// assert_eq!(tableau.name(), "dopri5");
/// # Ok::<(), aca_tableau::TableauError>(())
/// ```
pub fn by_name(name: &str) -> Result<Tableau, TableauError> {
    let wanted = plain(name);
    let found = all().find(|tableau| names(tableau).any(|known| plain(known) == wanted));
    found.cloned().ok_or_else(|| TableauError::UnknownName {
        name: name.to_string(),
        nearest: nearest(&wanted),
    })
}

/// The aliases under which [`by_name`] finds a built-in method; empty for other methods.
pub fn aliases(tableau: &Tableau) -> &'static [&'static str] {
    match tableau.name() {
        "euler" => &["forward_euler", "explicit_euler", "rk1"],
        "midpoint" => &["explicit_midpoint", "rk2"],
        "heun" => &["heun2", "explicit_trapezoid"],
        "ralston" => &["ralston2"],
        "heun_euler" => &["adaptive_heun", "rk12", "heun_euler21"],
        "bosh3" => &["bogacki_shampine", "rk23", "bs3", "bs32", "ode23"],
        "rk4" => &["runge_kutta4", "classic_rk4"],
        "rk4_38" => &["3/8", "rk4_three_eighths", "three_eighths", "kutta38"],
        "fehlberg45" => &["fehlberg", "rkf45", "runge_kutta_fehlberg"],
        "cash_karp" => &["ck45", "rkck", "cash_karp54"],
        "dopri5" => &["dormand_prince", "rk45", "dp5", "dopri54", "ode45"],
        "tsit5" => &["tsitouras", "tsitouras5", "tsit54"],
        "dop853" => &["dopri853", "dp853", "dop8"],
        "implicit_euler" => &["backward_euler", "bdf1"],
        "trapezoid" => &["trapezoidal_rule", "crank_nicolson", "implicit_trapezoid"],
        "tr_bdf2" => &["trbdf2", "ode23tb"],
        "kvaerno3" => &["esdirk32"],
        "kvaerno4" => &["esdirk43"],
        "esdirk4" => &["kencarp4_implicit", "ark436l2sa"],
        "kvaerno5" => &["esdirk54"],
        _ => &[],
    }
}

fn names(tableau: &'static Tableau) -> impl Iterator<Item = &'static str> {
    std::iter::once(tableau.name()).chain(aliases(tableau).iter().copied())
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '_', ' ', '.', '(', ')', '/'], "")
}

/// The three methods that were most likely meant, the likeliest first.
///
/// A name that begins like `wanted` goes before those that differ in a few letters, and of equals the method goes first
/// that more people take.
fn nearest(wanted: &str) -> Vec<&'static str> {
    const TAKEN: [&str; 5] = ["dopri5", "bosh3", "rk4", "tsit5", "dop853"];
    let rated = |tableau: &'static Tableau| {
        let distance = names(tableau).map(|known| distance(wanted, &plain(known))).min();
        let rank = TAKEN.iter().position(|name| *name == tableau.name());
        (distance, rank.unwrap_or(TAKEN.len()), tableau.name())
    };
    let mut methods: Vec<_> = all().map(rated).collect();
    methods.sort_by_key(|&(distance, rank, _)| (distance, rank));
    methods[..3].iter().map(|&(_, _, name)| name).collect()
}

/// How far a name is from the one asked for: 0 where it goes on or breaks off, else 1 and the letters that differ.
fn distance(wanted: &str, known: &str) -> usize {
    let alike = known.starts_with(wanted) || wanted.starts_with(known);
    match alike && wanted.len().min(known.len()) >= 4 {
        true => 0,
        false => 1 + edit_distance(wanted, known),
    }
}

/// Levenshtein's distance, one row of the table at a time.
fn edit_distance(x: &str, y: &str) -> usize {
    let y: Vec<char> = y.chars().collect();
    let mut row: Vec<usize> = (0..=y.len()).collect();
    for (i, x) in x.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in y.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[y.len()]
}
