use aca_tableau::{
    ALL, BOSH3, CASH_KARP, DOP853, DOPRI5, EULER, HEUN, HEUN_EULER, MIDPOINT, RK4, TSIT5, Tableau,
};

/// `R(x + iy)` by stage recursion in complex numbers, independent of the crate's polynomial.
fn growth(tableau: &Tableau, (x, y): (f64, f64)) -> f64 {
    let times = |(a, b): (f64, f64)| (a * x - b * y, a * y + b * x);
    let sum = |weights: &[f64], g: &[(f64, f64)]| {
        let sum =
            weights.iter().zip(g).fold((0.0, 0.0), |s, (w, g)| (s.0 + w * g.0, s.1 + w * g.1));
        let (re, im) = times(sum);
        (1.0 + re, im)
    };
    let mut stages: Vec<(f64, f64)> = Vec::new();
    for i in 0..tableau.stages() {
        let next = sum(tableau.a_row(i), &stages);
        stages.push(next);
    }
    let (re, im) = sum(tableau.b(), &stages);
    re.hypot(im)
}

#[test]
fn textbook_intervals_come_out() {
    // Hairer, Wanner II, IV.2: R of s = p stages is the truncated exponential.
    for (tableau, real, imaginary) in [
        (EULER, 2.0, 0.0),
        (MIDPOINT, 2.0, 0.0),
        (HEUN, 2.0, 0.0),
        (HEUN_EULER, 2.0, 0.0),
        (BOSH3, 2.5127, 1.7321),
        (RK4, 2.7853, 2.8284),
    ] {
        let interval = tableau.stability_interval();
        let (r, i) = (interval.real, interval.imaginary);
        assert!((r - real).abs() < 1e-4, "{}: real {r}, expected {real}", tableau.name());
        assert!(
            (i - imaginary).abs() < 1e-4,
            "{}: imaginary {i}, expected {imaginary}",
            tableau.name()
        );
    }
    let dopri5 = DOPRI5.stability_interval().real;
    assert!((dopri5 - 3.3066).abs() < 1e-3, "{dopri5}");
}

#[test]
fn growth_stays_below_one_up_to_the_interval_and_leaves_beyond_it() {
    for tableau in ALL {
        let interval = tableau.stability_interval();
        for (end, on) in [(interval.real, false), (interval.imaginary, true)] {
            let at = |x: f64| growth(tableau, if on { (0.0, x) } else { (-x, 0.0) });
            let inside = (1..200).map(|i| at(end * f64::from(i) / 200.0)).fold(0.0, f64::max);
            assert!(inside <= 1.0 + 1e-9, "{} grows by {inside} before {end}", tableau.name());
            assert!(at(end + 0.1) > 1.0, "{} does not grow beyond {end}", tableau.name());
        }
    }
}

#[test]
fn stage_differences_recover_a_constant_jacobian_exactly() {
    // On y' = J y + p(t) with a polynomial of low degree, the difference of slopes is J times that of states.
    assert_eq!(EULER.stage_difference(), None, "two times cannot cancel a slope that changes");
    for tableau in ALL.into_iter().filter(|tableau| **tableau != EULER) {
        let Some(difference) = tableau.stage_difference() else {
            panic!("{} has no difference of stages", tableau.name());
        };
        let (jacobian, h) = (-7.0, 0.3);
        let f = |t: f64, y: f64| jacobian * y + 2.0 + 3.0 * t;
        let mut rows: Vec<_> =
            (0..tableau.stages()).map(|i| (tableau.c()[i], tableau.a_row(i).to_vec())).collect();
        if !tableau.is_fsal() {
            rows.push((1.0, tableau.b().to_vec()));
        }
        let mut k: Vec<f64> = Vec::new();
        for (c, row) in &rows {
            let y = 0.8 + h * row.iter().zip(&k).map(|(a, k)| a * k).sum::<f64>();
            k.push(f(0.2 + c * h, y));
        }
        let along = |w: &[f64]| w.iter().zip(&k).map(|(w, k)| w * k).sum::<f64>();
        let quotient = along(&difference.slopes) / along(&difference.states);
        let error = (quotient - h * jacobian).abs();
        assert!(error < 1e-9, "{}: {quotient} for {}", tableau.name(), h * jacobian);
    }
}

#[test]
fn pairs_at_one_time_are_preferred() {
    for (tableau, first, last) in
        [(DOPRI5, 5, 6), (TSIT5, 5, 6), (DOP853, 11, 12), (CASH_KARP, 4, 6)]
    {
        let difference = tableau.stage_difference().unwrap();
        let used: Vec<_> =
            (0..difference.slopes.len()).filter(|i| difference.slopes[*i] != 0.0).collect();
        assert_eq!(used, [first, last], "{}", tableau.name());
    }
    let used = BOSH3.stage_difference().unwrap().slopes.iter().filter(|w| **w != 0.0).count();
    assert_eq!(used, 4, "bosh3 has no two stages at one time, so its divided difference has four");
}
