//! Methods by name or from a file.

use std::path::Path;

use aca_core::Method;
use aca_tableau::{Tableau, TableauError, by_name};

use crate::report::{Refusal, Result};

/// Returns the built-in method of that name, or the one of the TOML or JSON file that `name` points to; a name with a
/// folder in it is a file's.
///
/// # Errors
/// [`Refusal::UnknownMethod`], or the refusal of [`Tableau::from_file`].
pub fn method(name: &str) -> Result<Method> {
    find(name, Method::by_name)
}

/// The same of a Runge-Kutta method's tableau.
///
/// # Errors
/// As [`method`]; [`Refusal::NoTableau`] for a method of another kind.
pub fn tableau(name: &str) -> Result<Tableau> {
    match Method::by_name(name) {
        Ok(Method::Auto(pair)) => {
            let (explicit, implicit) = (pair.explicit.name(), pair.implicit.name());
            let instead =
                format!("it switches between {explicit} and {implicit}, which have one each");
            Err(Refusal::NoTableau { method: name.to_owned(), instead }.into())
        }
        Ok(other) if other.tableau().is_none() => {
            let instead = "`aca tableau list` shows those that have one".to_owned();
            Err(Refusal::NoTableau { method: name.to_owned(), instead }.into())
        }
        _ => find(name, by_name),
    }
}

fn find<M: From<Tableau>>(
    name: &str,
    by_name: impl Fn(&str) -> std::result::Result<M, TableauError>,
) -> Result<M> {
    let path = Path::new(name);
    let ends_in = |end: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(end));
    if path.components().count() > 1 || name.starts_with("./") {
        return Ok(Tableau::from_file(path)?.into());
    }
    match by_name(name) {
        Err(_) if ends_in("toml") || ends_in("json") || path.is_file() => {
            Ok(Tableau::from_file(path)?.into())
        }
        found => Ok(found?),
    }
}

/// Refuses tolerances that are none, or that were given for a method with fixed steps, which follow none.
///
/// # Errors
/// [`Refusal::FixedSteps`] or [`Refusal::Range`].
pub fn check_tolerances(method: &Method, rtol: Option<f64>, atol: Option<f64>) -> Result<()> {
    let given = [("--rtol", rtol), ("--atol", atol)];
    let given = given.into_iter().filter_map(|(option, value)| Some((option, value?)));
    for (option, value) in given {
        if !method.is_adaptive() {
            return Err(Refusal::FixedSteps { option, method: method.name().to_owned() }.into());
        }
        check_tolerance(option, value)?;
    }
    Ok(())
}

/// Refuses a tolerance that is none; a relative one is a part of the state.
///
/// # Errors
/// [`Refusal::Range`].
pub fn check_tolerance(option: &'static str, value: f64) -> Result<()> {
    let (limit, range) = match option {
        "--atol" => (f64::INFINITY, "a finite number above 0"),
        _ => (1.0, "above 0 and below 1, as it is relative to the state"),
    };
    match value > 0.0 && value < limit {
        true => Ok(()),
        false => Err(Refusal::Range { option, value, range, example: "1e-6" }.into()),
    }
}

/// Refuses a step that leads nowhere.
///
/// # Errors
/// [`Refusal::Range`].
pub fn check_step(h: Option<f64>) -> Result<()> {
    match h {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            let range = "a finite number above 0, whatever the direction of the span";
            Err(Refusal::Range { option: "--h", value, range, example: "0.01" }.into())
        }
        _ => Ok(()),
    }
}

/// Returns the method of that name for a command that steps by tolerances alone.
///
/// # Errors
/// [`Refusal::NotAdaptive`], and as [`method`].
pub fn adaptive(name: &str, command: &'static str) -> Result<Method> {
    let found = method(name)?;
    match found.is_adaptive() {
        true => Ok(found),
        false => Err(Refusal::NotAdaptive { method: found.name().to_owned(), command }.into()),
    }
}
