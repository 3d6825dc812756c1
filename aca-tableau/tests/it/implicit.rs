//! Diagonally implicit methods: orders, stability and drafts.

use aca_tableau::{
    ALL, ESDIRK4, IMPLICIT, IMPLICIT_EULER, KVAERNO3, KVAERNO4, KVAERNO5, TR_BDF2, TRAPEZOID,
    Tableau, TableauDraft, TableauError, by_name,
};

#[test]
fn every_built_in_keeps_every_claim_sharply() {
    for tableau in IMPLICIT {
        assert_eq!(tableau.validate(), Ok(()), "{}", tableau.name());
        assert_eq!(tableau.satisfied_order(), tableau.order(), "{}", tableau.name());
        for which in 0..tableau.embedded().len() {
            let mut draft = tableau.to_draft();
            draft.embedded[which].order += 1;
            let refused = Tableau::new(draft);
            let sharp = matches!(refused, Err(TableauError::OrderCondition { .. }));
            assert!(sharp, "embedded solution of {}: {refused:?}", tableau.name());
        }
        assert!(tableau.is_implicit() && by_name(tableau.name()).as_ref() == Ok(tableau));
    }
    assert!(ALL.iter().all(|tableau| !tableau.is_implicit()));
}

#[test]
fn stability_is_decided_from_the_coefficients() {
    for tableau in IMPLICIT {
        let far = tableau.far_stability();
        assert!(far.is_a_stable, "{}: {far:?}", tableau.name());
        let l_stable = *tableau != TRAPEZOID;
        assert_eq!(far.is_l_stable(), l_stable, "{}: {far:?}", tableau.name());
        let interval = tableau.stability_interval();
        assert_eq!(interval.real, f64::INFINITY, "{}", tableau.name());
    }
    assert!((TRAPEZOID.far_stability().at_infinity - 1.0).abs() < 1e-10);
    // The embedded solutions of Kvaerno's pairs are stages, which damp as well.
    for tableau in [KVAERNO3, KVAERNO4, KVAERNO5] {
        let far = tableau.far_stability_of(&tableau.embedded()[0].b_hat);
        assert!(far.at_infinity < 1.0, "{}: {far:?}", tableau.name());
    }
    // TR-BDF2's estimate does not (Hosea and Shampine filter it).
    let far = TR_BDF2.far_stability_of(&TR_BDF2.embedded()[0].b_hat);
    assert!(far.at_infinity > 1.0, "{far:?}");
    for tableau in ALL {
        let far = tableau.far_stability();
        assert!(!far.is_a_stable && far.at_infinity == f64::INFINITY, "{}", tableau.name());
    }
    // A step of 1.5 with theta = 0.4 grows: such a method is not A-stable.
    let theta = TableauDraft {
        name: "theta".into(),
        order: 1,
        a: vec![vec![0.4]],
        b: vec![1.0],
        c: vec![0.4],
        ..TableauDraft::default()
    };
    let theta = Tableau::new(theta).unwrap();
    assert!(!theta.far_stability().is_a_stable);
    assert!((theta.far_stability().at_infinity - 1.5).abs() < 1e-9);
    assert!((theta.stability_interval().real - 10.0).abs() < 1e-6, "2 / (1 - 2 theta)");
}

#[test]
fn stage_orders_are_those_of_the_literature() {
    let orders = IMPLICIT.map(|tableau| (tableau.name(), tableau.stage_order()));
    let expected = [
        ("implicit_euler", 1),
        ("trapezoid", 2),
        ("tr_bdf2", 2),
        ("kvaerno3", 2),
        ("kvaerno4", 2),
        ("esdirk4", 2),
        ("kvaerno5", 2),
    ];
    assert_eq!(orders, expected);
}

#[test]
fn stiffly_accurate_methods_end_in_their_last_stage() {
    let accurate: Vec<_> =
        IMPLICIT.iter().filter(|t| t.is_stiffly_accurate()).map(|t| t.name()).collect();
    assert_eq!(accurate.len(), IMPLICIT.len(), "{accurate:?}");
    let same: Vec<_> = IMPLICIT.iter().filter(|t| !t.is_fsal()).map(|t| t.name()).collect();
    assert_eq!(same, ["implicit_euler"], "its first stage is no slope at the start");
    for tableau in IMPLICIT {
        let extra = if *tableau == IMPLICIT_EULER { 2 } else { 0 };
        assert_eq!(tableau.interpolant().extra_stages(), extra, "{}", tableau.name());
    }
}

#[test]
fn drafts_of_implicit_methods_make_them_again() {
    for tableau in IMPLICIT {
        assert_eq!(Tableau::new(tableau.to_draft()).as_ref(), Ok(tableau));
    }
    let mut full = ESDIRK4.to_draft();
    for row in &mut full.a {
        row.resize(6, 0.0);
    }
    assert_eq!(Tableau::new(full.clone()).as_ref(), Ok(&ESDIRK4));
    full.a[2][3] = 0.5;
    let error = Tableau::new(full).unwrap_err();
    assert_eq!(error, TableauError::AboveDiagonal { row: 2, column: 3, value: 0.5 });
    let mut wrong = KVAERNO5.to_draft();
    wrong.a[3][3] += 1e-3;
    assert!(matches!(Tableau::new(wrong), Err(TableauError::RowSum { row: 3, .. })));
}
