use aca_tableau::{ALL, Tableau, TableauDraft, TableauError};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest,
};

/// Every coefficient of a draft, in one list.
fn coefficients(draft: &mut TableauDraft) -> Vec<&mut f64> {
    let rows = draft.a.iter_mut().flatten().chain(&mut draft.b).chain(&mut draft.c);
    let embedded = draft.embedded.iter_mut().flat_map(|embedded| &mut embedded.b_hat);
    let dense = draft.interpolant.iter_mut().flat_map(|interpolant| {
        let stages = interpolant.a.iter_mut().flatten().chain(&mut interpolant.c);
        stages.chain(interpolant.weights.iter_mut().flatten())
    });
    rows.chain(embedded).chain(dense).collect()
}

fn shift() -> impl Strategy<Value = f64> {
    let size = (-6.0..0.0).prop_map(|exponent: f64| 10f64.powf(exponent));
    (size, prop_oneof![Just(1.0), Just(-1.0)]).prop_map(|(size, sign)| size * sign)
}

fn draft_with(property: fn(&TableauDraft) -> bool) -> impl Strategy<Value = TableauDraft> {
    let drafts = ALL.into_iter().map(Tableau::to_draft).filter(property);
    prop::sample::select(drafts.collect::<Vec<_>>())
}

/// A refusal that says which condition failed.
fn names_a_condition(refused: &Result<Tableau, TableauError>) -> bool {
    matches!(
        refused,
        Err(TableauError::RowSum { .. }
            | TableauError::OrderCondition { .. }
            | TableauError::InterpolantEnd { .. }
            | TableauError::InterpolantSlope { .. }
            | TableauError::NoEndSlope)
    )
}

#[test]
fn an_unperturbed_draft_gives_the_method_back() {
    for tableau in ALL {
        let again = Tableau::new(tableau.to_draft()).unwrap();
        assert_eq!(again.to_draft().a, tableau.to_draft().a, "{}", tableau.name());
        assert_eq!((again.b(), again.c()), (tableau.b(), tableau.c()), "{}", tableau.name());
        assert_eq!(again.embedded(), tableau.embedded(), "{}", tableau.name());
        assert_eq!(again.is_fsal(), tableau.is_fsal(), "{}", tableau.name());
        let (weights, expected) =
            (again.interpolant().weights(0.3), tableau.interpolant().weights(0.3));
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{}: {weight} {expected}", tableau.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_wrong_coefficient_is_refused(
        mut draft in draft_with(|_| true),
        which in any::<prop::sample::Index>(),
        shift in shift(),
    ) {
        let mut coefficients = coefficients(&mut draft);
        let index = which.index(coefficients.len());
        *coefficients[index] += shift;
        let refused = Tableau::new(draft.clone());
        prop_assert!(names_a_condition(&refused), "{}[{index}] + {shift}: {refused:?}", draft.name);
    }

    /// Row sums hold, so only order conditions can see it.
    #[test]
    fn weight_moved_from_one_stage_to_another_is_refused(
        mut draft in draft_with(|draft| draft.b.len() > 1),
        which in any::<(prop::sample::Index, prop::sample::Index)>(),
        shift in shift(),
    ) {
        let stages = draft.b.len();
        let from = which.0.index(stages);
        let to = (from + 1 + which.1.index(stages - 1)) % stages;
        draft.b[from] -= shift;
        draft.b[to] += shift;
        let refused = Tableau::new(draft.clone());
        let condition = matches!(refused, Err(TableauError::OrderCondition { .. }));
        prop_assert!(condition, "{} {from} to {to}, {shift}: {refused:?}", draft.name);
    }

    /// Ends and end slopes hold, so only the order conditions inside the step can see it.
    #[test]
    fn interpolant_that_bulges_is_refused(
        mut draft in draft_with(|draft| draft.interpolant.is_some()),
        which in any::<prop::sample::Index>(),
        shift in shift(),
    ) {
        let weights = &mut draft.interpolant.as_mut().unwrap().weights;
        let stage = which.index(weights.len());
        for (power, factor) in [(1, 1.0), (2, -2.0), (3, 1.0)] {
            weights[stage][power] += factor * shift;
        }
        let refused = Tableau::new(draft.clone());
        let condition = matches!(refused, Err(TableauError::OrderCondition { .. }));
        prop_assert!(condition, "{} stage {stage}, {shift}: {refused:?}", draft.name);
    }
}
