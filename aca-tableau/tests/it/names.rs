use std::collections::BTreeSet;

use aca_tableau::{ALL, DOP853, DOPRI5, TableauError, aliases, by_name};

#[test]
fn every_name_and_alias_is_found_in_any_spelling() {
    for tableau in ALL {
        for name in aliases(tableau).iter().copied().chain([tableau.name()]) {
            let spellings = [name.to_string(), name.to_uppercase(), name.replace('_', "-")];
            for spelling in spellings {
                assert_eq!(by_name(&spelling).as_ref(), Ok(tableau), "{spelling}");
            }
        }
    }
}

#[test]
fn names_and_aliases_are_distinct() {
    let all: Vec<_> =
        ALL.iter().flat_map(|t| aliases(t).iter().copied().chain([t.name()])).collect();
    let plain: BTreeSet<_> = all.iter().map(|name| name.replace(['_', '/'], "")).collect();
    assert_eq!(plain.len(), all.len(), "{all:?}");
}

#[test]
fn names_of_the_original_implementation_are_found() {
    let original = ["Euler", "RK2", "RK4", "RK12", "RK23", "RK45", "Dopri5"];
    let names: Vec<_> =
        original.map(|name| by_name(name).map(|t| t.name().to_string())).into_iter().collect();
    let ours = ["euler", "midpoint", "rk4", "heun_euler", "bosh3", "dopri5", "dopri5"];
    assert_eq!(names, ours.map(|name| Ok(name.to_string())));
}

#[test]
fn punctuation_does_not_matter() {
    assert_eq!(by_name("RK4(3/8)").map(|t| t.name().to_string()), Ok("rk4_38".into()));
    assert_eq!(by_name(" Dormand - Prince "), Ok(DOPRI5));
    assert_eq!(by_name("DOP.853"), Ok(DOP853));
}

#[test]
fn part_of_a_name_is_nearest_to_the_whole() {
    for (part, whole) in [
        ("bogacki", "bosh3"),
        ("dormand", "dopri5"),
        ("fehl", "fehlberg45"),
        ("runge kutta", "rk4"),
        ("tsit", "tsit5"),
        ("rk99", "dopri5"),
    ] {
        let Err(TableauError::UnknownName { nearest, .. }) = by_name(part) else {
            panic!("{part} is a name")
        };
        assert_eq!(nearest[0], whole, "{part}: {nearest:?}");
    }
}

#[test]
fn unknown_name_lists_the_nearest() {
    let error = by_name("dopri4").unwrap_err();
    assert_eq!(
        error,
        TableauError::UnknownName {
            name: "dopri4".into(),
            nearest: vec!["dopri5", "dop853", "rk4"],
        }
    );
    assert_eq!(error.to_string(), "unknown method \"dopri4\"; nearest: dopri5, dop853, rk4");
}
