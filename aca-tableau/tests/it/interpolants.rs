use aca_tableau::{
    ALL, DOP853, DOPRI5, Interpolant, InterpolantDraft, TSIT5, Tableau, TableauError,
};

fn draft(interpolant: &Interpolant, order: usize) -> InterpolantDraft {
    let extra = interpolant.extra_stages();
    InterpolantDraft {
        order,
        a: (0..extra).map(|extra| interpolant.a_row(extra).to_vec()).collect(),
        c: (0..extra).map(|extra| interpolant.c(extra)).collect(),
        weights: (0..interpolant.stages()).map(|stage| interpolant.coefficients(stage)).collect(),
    }
}

fn with_interpolant_of_order(tableau: &Tableau, order: usize) -> Result<Tableau, TableauError> {
    let interpolant = Some(draft(&tableau.interpolant(), order));
    Tableau::new(aca_tableau::TableauDraft { interpolant, ..tableau.to_draft() })
}

fn end_slope(interpolant: &Interpolant, tableau: &Tableau) -> usize {
    tableau.stages() - usize::from(!interpolant.first_extra_is_end_slope())
}

fn close(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (stage, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= bound, "{what}, stage {stage}: {found}, expected {expected} within {bound}");
    }
}

#[test]
fn orders_are_kept_and_sharp() {
    for tableau in ALL {
        let order = tableau.interpolant().order();
        let kept = with_interpolant_of_order(tableau, order);
        assert!(kept.is_ok(), "{}: {kept:?}", tableau.name());
        let refused = with_interpolant_of_order(tableau, order + 1);
        let sharp = matches!(refused, Err(TableauError::OrderCondition { .. }));
        assert!(sharp, "{} at order {}: {refused:?}", tableau.name(), order + 1);
    }
}

#[test]
fn declared_orders_are_four_four_and_seven_and_others_hermite() {
    for tableau in ALL {
        let expected = match tableau.name() {
            "dopri5" | "tsit5" => 4,
            "dop853" => 7,
            _ => tableau.order().min(3),
        };
        assert_eq!(tableau.interpolant().order(), expected, "{}", tableau.name());
    }
}

#[test]
fn end_slope_costs_a_stage_only_where_the_method_is_not_fsal() {
    for tableau in ALL {
        let interpolant = tableau.interpolant();
        let expected = match tableau.name() {
            "dop853" => 4,
            _ => usize::from(!tableau.is_fsal()),
        };
        assert_eq!(interpolant.extra_stages(), expected, "{}", tableau.name());
        assert_eq!(interpolant.first_extra_is_end_slope(), !tableau.is_fsal());
        assert_eq!(interpolant.stages(), tableau.stages() + expected);
        if interpolant.first_extra_is_end_slope() {
            assert_eq!((interpolant.a_row(0), interpolant.c(0)), (tableau.b(), 1.0));
        }
    }
}

#[test]
fn ends_are_exact_to_the_last_bit() {
    for tableau in ALL {
        let interpolant = tableau.interpolant();
        let mut end = tableau.b().to_vec();
        end.resize(interpolant.stages(), 0.0);
        assert_eq!(interpolant.weights(0.0), vec![0.0; end.len()], "{}", tableau.name());
        assert_eq!(interpolant.weights(1.0), end, "{}", tableau.name());
    }
}

#[test]
fn slopes_at_the_ends_are_single_stages() {
    for tableau in ALL {
        let interpolant = tableau.interpolant();
        let unit = |stage| {
            let mut unit = vec![0.0; interpolant.stages()];
            unit[stage] = 1.0;
            unit
        };
        let end = end_slope(&interpolant, tableau);
        assert_eq!(interpolant.derivative_weights(0.0), unit(0), "{}", tableau.name());
        assert_eq!(interpolant.derivative_weights(1.0), unit(end), "{}", tableau.name());
    }
}

#[test]
fn derivative_weights_are_the_slopes_of_the_weights() {
    let step = 1e-6;
    for tableau in ALL {
        let interpolant = tableau.interpolant();
        for s in [0.1, 0.4, 0.9] {
            let (up, down) = (interpolant.weights(s + step), interpolant.weights(s - step));
            let slope: Vec<_> = up.iter().zip(down).map(|(u, d)| (u - d) / (2.0 * step)).collect();
            // truncation 1e-12 times a third derivative below 1e4
            close(&interpolant.derivative_weights(s), &slope, 1e-8, tableau.name());
        }
    }
}

#[test]
fn coefficients_are_those_of_the_same_polynomial() {
    for tableau in ALL {
        let interpolant = tableau.interpolant();
        let at = |s: f64| -> Vec<f64> {
            let horner = |c: Vec<f64>| c.iter().rev().fold(0.0, |sum, c| (sum + c) * s);
            (0..interpolant.stages()).map(|stage| horner(interpolant.coefficients(stage))).collect()
        };
        // coefficients up to 2e3 cancel
        close(&at(0.3), &interpolant.weights(0.3), 1e-12, tableau.name());
    }
}

#[test]
fn weights_into_writes_what_weights_returns() {
    let interpolant = DOP853.interpolant();
    let mut out = vec![f64::NAN; interpolant.stages()];
    interpolant.weights_into(0.3, &mut out);
    assert_eq!(out, interpolant.weights(0.3));
}

#[test]
fn dopri5_at_the_midpoint_is_shampines() {
    let mid = [
        6025192743.0 / 30085553152.0 / 2.0,
        0.0,
        51252292925.0 / 65400821598.0 / 2.0,
        -2691868925.0 / 45128329728.0 / 2.0,
        187940372067.0 / 1594534317056.0 / 2.0,
        -1776094331.0 / 19743644256.0 / 2.0,
        11237099.0 / 235043384.0 / 2.0,
    ];
    close(&DOPRI5.interpolant().weights(0.5), &mid, 1e-15, "Shampine's C_mid");
}

#[test]
fn dopri5_leading_coefficients_are_the_textbooks() {
    let d = [
        -12715105075.0 / 11282082432.0,
        0.0,
        87487479700.0 / 32700410799.0,
        -10690763975.0 / 1880347072.0,
        701980252875.0 / 199316789632.0,
        -1453857185.0 / 822651844.0,
        69997945.0 / 29380423.0,
    ];
    let interpolant = DOPRI5.interpolant();
    let leading: Vec<_> = (0..7).map(|stage| interpolant.coefficients(stage)[3]).collect();
    close(&leading, &d, 1e-15, "d of HNW I, II.6");
}

#[test]
fn tsit5_is_the_papers_factored_quartic() {
    let s = 0.5;
    let b1 = -1.0530884977290216
        * s
        * (s - 1.329989018975141)
        * (s * s - 1.436402854171635 * s + 0.7139816917074209);
    let b2 = 0.1017 * s * s * (s * s - 2.196656833824975 * s + 1.294985250737463);
    let b7 = 2.5 * s * s * (s - 1.0) * (s - 0.6);
    let weights = TSIT5.interpolant().weights(s);
    close(&[weights[0], weights[1], weights[6]], &[b1, b2, b7], 1e-15, "Tsitouras 2011");
}
