use aca_core::{Pid, StepControl};
use proptest::prelude::*;

const CONTROLLERS: [(&str, Pid); 3] = [("I", Pid::I), ("PI", Pid::PI), ("PID", Pid::PID)];

#[test]
fn integral_factor_is_the_classic_one() {
    let mut control = StepControl::new(Pid::I, 5);
    let (found, expected) = (control.accept(0.01), 0.9 * 0.01f64.powf(-0.2));
    assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
}

#[test]
fn pid_factor_is_the_formula_of_three_ratios() {
    let (pid, q) = (Pid { p: 0.4, i: 0.3, d: 0.1, ..Pid::I }, 4.0);
    let mut control = StepControl::new(pid, 4);
    control.accept(0.8);
    control.accept(0.6);
    let found = control.accept(0.5);
    let expected = 0.9 * 0.5f64.powf(-0.8 / q) * 0.6f64.powf(0.6 / q) * 0.8f64.powf(-0.1 / q);
    assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
}

#[test]
fn a_ratio_that_is_not_finite_is_no_perfect_step() {
    for ratio in [f64::NAN, f64::INFINITY] {
        let mut control = StepControl::new(Pid::I, 0);
        assert_eq!(control.accept(ratio), Pid::I.factor_min, "{ratio}");
    }
}

#[test]
fn rejected_ratios_do_not_enter_the_history() {
    for (name, pid) in CONTROLLERS {
        let (mut smooth, mut bumpy) = (StepControl::new(pid, 5), StepControl::new(pid, 5));
        smooth.accept(0.5);
        bumpy.accept(0.5);
        bumpy.reject(7.0);
        assert_eq!(smooth.accept(0.9).min(1.0), bumpy.accept(0.9), "{name}");
    }
}

#[test]
fn step_does_not_grow_right_after_a_rejection() {
    for (name, pid) in CONTROLLERS {
        let mut control = StepControl::new(pid, 5);
        control.reject(30.0);
        let (first, second) = (control.accept(1e-8), control.accept(1e-8));
        assert_eq!(first, 1.0, "{name}: factor after the rejection");
        assert!(second > 1.0, "{name}: factor {second} one step later");
    }
}

#[test]
fn rejection_shrinks_the_step_by_the_integral_term() {
    for (name, pid) in CONTROLLERS {
        let mut control = StepControl::new(pid, 5);
        control.accept(0.3);
        let (found, expected) = (control.reject(4.0), 0.9 * 4.0f64.powf(-0.2));
        assert!((found - expected).abs() < 1e-15, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn ratio_that_is_not_finite_shrinks_the_step_as_far_as_allowed() {
    for ratio in [f64::NAN, f64::INFINITY] {
        let pid = Pid { factor_min: 0.125, ..Pid::PI };
        assert_eq!(StepControl::new(pid, 5).reject(ratio), 0.125, "ratio {ratio}");
    }
}

#[test]
fn step_without_error_grows_as_far_as_allowed() {
    for order in 2..=8 {
        let control = || StepControl::new(Pid::I, order);
        assert_eq!(control().accept(0.0), Pid::I.factor_max, "error falls as h^{order}");
    }
}

#[test]
fn huge_error_shrinks_the_step_no_further_than_allowed() {
    assert_eq!(StepControl::new(Pid::I, 2).reject(1e12), Pid::I.factor_min);
}

#[test]
fn default_controller_is_the_integral_one() {
    assert_eq!(Pid::default(), Pid::I);
}

proptest! {
    #[test]
    fn factors_keep_their_limits(
        which in 0..3usize,
        order in 1..9usize,
        ratios in prop::collection::vec(prop_oneof![0.0..3.0, 1e-12..1e-6, Just(f64::NAN)], 1..12),
    ) {
        let (name, pid) = CONTROLLERS[which];
        let mut control = StepControl::new(pid, order);
        for &ratio in &ratios {
            // NaN is not accepted, as in the loop.
            let accepted = ratio <= 1.0;
            let factor = if accepted { control.accept(ratio) } else { control.reject(ratio) };
            let limits = pid.factor_min..=if accepted { pid.factor_max } else { pid.safety };
            let kept = limits.contains(&factor);
            prop_assert!(kept, "{name}: {factor} outside {limits:?} after {ratios:?}");
        }
    }
}
