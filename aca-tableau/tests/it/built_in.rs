use aca_tableau::{ALL, BOSH3, DOP853, DOPRI5, FEHLBERG45, Tableau, TableauError};

#[test]
fn every_built_in_keeps_every_claim() {
    for tableau in ALL {
        assert_eq!(tableau.validate(), Ok(()), "{}", tableau.name());
    }
}

#[test]
fn claimed_orders_are_sharp() {
    for tableau in ALL {
        assert_eq!(tableau.satisfied_order(), tableau.order(), "{}", tableau.name());
    }
}

#[test]
fn claimed_embedded_orders_are_sharp() {
    for tableau in ALL {
        for which in 0..tableau.embedded().len() {
            let mut draft = tableau.to_draft();
            draft.embedded[which].order += 1;
            let refused = Tableau::new(draft);
            let sharp = matches!(refused, Err(TableauError::OrderCondition { .. }));
            assert!(sharp, "embedded solution {which} of {}: {refused:?}", tableau.name());
        }
    }
}

#[test]
fn fsal_is_derived_for_bosh3_dopri5_and_tsit5_alone() {
    let fsal: Vec<_> = ALL.into_iter().filter(|t| t.is_fsal()).map(Tableau::name).collect();
    assert_eq!(fsal, ["bosh3", "dopri5", "tsit5"]);
}

#[test]
fn methods_with_an_embedded_solution_are_adaptive() {
    let fixed: Vec<_> = ALL.into_iter().filter(|t| !t.is_adaptive()).map(Tableau::name).collect();
    assert_eq!(fixed, ["euler", "midpoint", "heun", "ralston", "rk4", "rk4_38"]);
}

#[test]
fn error_order_follows_the_lower_of_the_two_solutions() {
    assert_eq!(BOSH3.error_order(), Some(3));
    assert_eq!(DOPRI5.error_order(), Some(5));
    assert_eq!(FEHLBERG45.error_order(), Some(5), "propagates order 4, embeds order 5");
    assert_eq!(DOP853.error_order(), Some(8), "err5^2 / err3 = h^(2 * 6 - 4)");
    assert!(ALL.into_iter().all(|t| t.error_order().is_some() == t.is_adaptive()));
}

#[test]
fn dopri5_error_weights_are_the_textbooks() {
    let e = [
        71.0 / 57600.0,
        0.0,
        -71.0 / 16695.0,
        71.0 / 1920.0,
        -17253.0 / 339200.0,
        22.0 / 525.0,
        -1.0 / 40.0,
    ];
    for (found, expected) in DOPRI5.b_error()[0].iter().zip(e) {
        assert!((found - expected).abs() < 1e-16, "{found}, expected {expected}");
    }
}

#[test]
fn every_method_names_its_paper() {
    for tableau in ALL {
        assert!(tableau.source().contains(", 1") || tableau.source().contains(", 2"));
    }
}
