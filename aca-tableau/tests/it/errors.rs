use aca_tableau::{
    BOSH3, CASH_KARP, DOP853, DOPRI5, EmbeddedDraft, HEUN, HEUN_EULER, RK4, Tableau, TableauDraft,
    TableauError, Weights, rooted_trees,
};

/// The refusal of `tableau` once `spoil` has been at its draft, and its text.
fn refusal(tableau: &Tableau, spoil: impl FnOnce(&mut TableauDraft)) -> (TableauError, String) {
    let mut draft = tableau.to_draft();
    spoil(&mut draft);
    let error = Tableau::new(draft).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn empty_method_is_refused() {
    let error = Tableau::new(TableauDraft::default()).unwrap_err();
    assert_eq!(error, TableauError::NoStages);
    assert_eq!(error.to_string(), "b is empty; a method has at least one stage");
}

#[test]
fn lists_of_wrong_length_are_refused() {
    let size =
        |what: &str, expected, found| TableauError::Size { what: what.into(), expected, found };
    let (error, text) = refusal(&RK4, |draft| draft.c.truncate(3));
    assert_eq!(error, size("c", 4, 3));
    assert_eq!(text, "c has 3 entries, must have 4");
    assert_eq!(refusal(&RK4, |draft| draft.a.truncate(3)).0, size("a", 4, 3));
    assert_eq!(refusal(&RK4, |draft| draft.a[2].truncate(1)).0, size("a[2]", 2, 1));
    let short = refusal(&BOSH3, |draft| draft.embedded[0].b_hat.truncate(3)).0;
    assert_eq!(short, size("embedded[0].b_hat", 4, 3));
    let dense = |spoil: fn(&mut aca_tableau::InterpolantDraft)| {
        refusal(&DOP853, |draft| draft.interpolant.as_mut().into_iter().for_each(spoil)).0
    };
    assert_eq!(dense(|i| i.a.truncate(3)), size("interpolant.a", 4, 3));
    assert_eq!(dense(|i| i.weights.truncate(3)), size("interpolant.weights", 16, 3));
    assert_eq!(dense(|i| i.a[1].truncate(3)), size("interpolant.a[1]", 13, 3));
}

#[test]
fn infinite_and_undefined_coefficients_are_refused() {
    let (error, text) = refusal(&RK4, |draft| draft.b[2] = f64::INFINITY);
    let (what, value) = ("b".to_string(), f64::INFINITY);
    assert_eq!(error, TableauError::NotFinite { what, index: 2, value });
    assert_eq!(text, "entry 2 of b is inf; coefficients must be finite");
    let (_, text) = refusal(&RK4, |draft| draft.a[3][1] = f64::NAN);
    assert_eq!(text, "entry 1 of a[3] is NaN; coefficients must be finite");
    let (_, text) = refusal(&DOPRI5, |draft| {
        draft.interpolant.as_mut().unwrap().weights[3][0] = f64::NAN;
    });
    assert_eq!(text, "entry 0 of interpolant.weights[3] is NaN; coefficients must be finite");
}

#[test]
fn fully_implicit_methods_are_refused() {
    let (error, text) = refusal(&HEUN, |draft| draft.a = vec![vec![0.0, 0.5], vec![0.5, 0.5]]);
    assert_eq!(error, TableauError::AboveDiagonal { row: 0, column: 1, value: 0.5 });
    assert_eq!(
        text,
        "a[0][1] is 0.5; a method that is explicit or diagonally implicit has zeros above the diagonal"
    );
}

#[test]
fn orders_that_cannot_be_checked_are_refused() {
    let (error, text) = refusal(&DOP853, |draft| draft.order = 9);
    assert_eq!(error, TableauError::OrderClaim { what: "b", order: 9 });
    assert_eq!(text, "order 9 is claimed for b; orders 1 to 8 can be checked");
    let (_, text) = refusal(&BOSH3, |draft| draft.embedded[0].order = 0);
    assert_eq!(text, "order 0 is claimed for b_hat; orders 1 to 8 can be checked");
    let (_, text) = refusal(&DOPRI5, |draft| draft.interpolant.as_mut().unwrap().order = 9);
    assert_eq!(text, "order 9 is claimed for the interpolant; orders 1 to 8 can be checked");
}

#[test]
fn more_than_two_embedded_solutions_are_refused() {
    let (error, text) = refusal(&HEUN_EULER, |draft| {
        let third = |w: f64| EmbeddedDraft { order: 1, b_hat: vec![1.0 - w, w] };
        draft.embedded = vec![third(0.0), third(0.25), third(0.75)];
    });
    assert_eq!(error, TableauError::EmbeddedCount { found: 3 });
    assert_eq!(text, "3 embedded solutions are given; error estimates combine at most 2");
}

#[test]
fn embedded_solutions_in_the_wrong_order_are_refused() {
    let (error, text) = refusal(&DOP853, |draft| draft.embedded.reverse());
    assert_eq!(error, TableauError::EmbeddedSequence { first: 3, second: 5 });
    assert_eq!(
        text,
        "embedded solutions of orders 3 and 5 are in the wrong order; give the higher order first"
    );
}

#[test]
fn embedded_solution_that_never_differs_is_refused() {
    let (error, text) = refusal(&BOSH3, |draft| draft.embedded[0].b_hat = draft.b.clone());
    assert_eq!(error, TableauError::EmbeddedEqualsB { order: 2 });
    assert_eq!(
        text,
        "the embedded solution of order 2 equals b up to rounding; its error estimate would always be 0"
    );
}

#[test]
fn time_that_is_not_the_row_sum_is_refused() {
    let (error, text) = refusal(&RK4, |draft| draft.c[2] = 0.4);
    assert_eq!(error, TableauError::RowSum { row: 2, sum: 0.5, c: 0.4 });
    assert_eq!(text, "row 2 of a sums to 0.5, but c is 0.4; c must hold the row sums");
    let (_, text) = refusal(&DOP853, |draft| draft.interpolant.as_mut().unwrap().c[1] = 0.2);
    assert_eq!(text, "row 13 of a sums to 0.1, but c is 0.2; c must hold the row sums");
}

#[test]
fn failed_order_condition_names_its_tree() {
    let (error, text) = refusal(&RK4, |draft| draft.a[2] = vec![0.25, 0.25]);
    let (tree, weights) = (rooted_trees(3)[1].clone(), Weights::Propagated);
    let required = 1.0 / 6.0;
    assert_eq!(error, TableauError::OrderCondition { tree, weights, sum: 0.125, required });
    assert_eq!(
        text,
        "order 3 condition of tree [[t]] fails: sum is 0.125, must be 0.166667; \
         the highest order that holds is 2; claim it, or correct the coefficients"
    );
}

#[test]
fn weights_that_do_not_add_up_to_one_have_no_order() {
    let (_, text) = refusal(&RK4, |draft| draft.b[0] = 0.0);
    assert!(text.ends_with("; no order holds; correct the coefficients"), "{text}");
}

#[test]
fn failed_condition_of_an_embedded_solution_says_so() {
    let (_, text) = refusal(&CASH_KARP, |draft| draft.embedded[0].order = 5);
    let expected = "order 5 condition of tree [t t t t] fails for the embedded solution of \
                    order 5: sum is 0.200676, must be 0.2; the highest order that holds is 4; \
                    claim it, or correct the coefficients";
    assert_eq!(text, expected);
}

#[test]
fn failed_condition_of_an_interpolant_says_where() {
    let (_, text) = refusal(&DOPRI5, |draft| draft.interpolant.as_mut().unwrap().order = 5);
    let expected = "order 5 condition of tree [t t t t] fails for the interpolant at s = 0.25: \
                    sum is 0.0021919, must be 0.000195313; the highest order that holds is 4; \
                    claim it, or correct the coefficients";
    assert_eq!(text, expected);
}

#[test]
fn numbers_that_look_equal_get_more_digits() {
    let (_, text) = refusal(&RK4, |draft| draft.c[3] += 1e-9);
    assert_eq!(text, "row 3 of a sums to 1, but c is 1.000000001; c must hold the row sums");
}

#[test]
fn interpolant_without_end_slope_is_refused() {
    let (error, text) = refusal(&DOP853, |draft| {
        let interpolant = draft.interpolant.as_mut().unwrap();
        interpolant.a[0][0] += 1e-3;
        interpolant.c[0] += 1e-3;
    });
    assert_eq!(error, TableauError::NoEndSlope);
    assert_eq!(
        text,
        "the interpolant has no stage f(t1, y1); make its first extra row equal to b, with c = 1"
    );
}

#[test]
fn interpolant_that_misses_y1_is_refused() {
    let (error, text) = refusal(&DOPRI5, |draft| {
        draft.interpolant.as_mut().unwrap().weights[1] = vec![0.0, 0.0, 0.25];
    });
    assert_eq!(error, TableauError::InterpolantEnd { stage: 1, weight: 0.25, b: 0.0 });
    assert_eq!(text, "the interpolant at s = 1 gives stage 1 the weight 0.25, but b has 0");
}

#[test]
fn interpolant_with_a_kink_is_refused() {
    let (error, text) = refusal(&DOPRI5, |draft| {
        draft.interpolant.as_mut().unwrap().weights[1] = vec![0.0, -0.5, 0.5];
    });
    assert_eq!(
        error,
        TableauError::InterpolantSlope { s: 1.0, stage: 1, weight: 0.5, required: 0.0 }
    );
    assert_eq!(text, "the interpolant's slope at s = 1 gives stage 1 the weight 0.5, must be 0");
    let (_, text) = refusal(&DOPRI5, |draft| {
        draft.interpolant.as_mut().unwrap().weights[1] = vec![0.5, -0.5];
    });
    assert_eq!(text, "the interpolant's slope at s = 0 gives stage 1 the weight 0.5, must be 0");
}

#[test]
fn embedded_solution_that_differs_by_rounding_is_refused() {
    for off in [1e-16, 1e-12] {
        let nearly = |draft: &mut TableauDraft| {
            draft.embedded[0].b_hat = draft.b.clone();
            draft.embedded[0].b_hat[0] += off;
            draft.embedded[0].b_hat[1] -= off;
        };
        assert_eq!(refusal(&BOSH3, nearly).0, TableauError::EmbeddedEqualsB { order: 2 }, "{off}");
    }
}

#[test]
fn weights_that_cancel_do_not_hide_a_wrong_sum() {
    // Their sum is 2, and a billionth of their size.
    let (b, c) = (vec![1e12, 2.0 - 1e12], vec![0.0; 2]);
    let a = vec![vec![], vec![0.0]];
    let error = Tableau::new(TableauDraft { order: 1, a, b, c, ..Default::default() }).unwrap_err();
    assert!(error.to_string().contains("sum is 2, must be 1"), "{error}");
}
