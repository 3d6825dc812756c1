use std::borrow::Cow::Borrowed;

use crate::tableau::Tableau;

/// Euler's method, order 1: one evaluation per step, for fixed steps.
pub const EULER: Tableau = Tableau {
    name: Borrowed("euler"),
    source: Borrowed("Euler, Institutionum calculi integralis I, 1768"),
    order: 1,
    diagonal: Borrowed(&[]),
    a: Borrowed(&[]),
    b: Borrowed(&[1.0]),
    c: Borrowed(&[0.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// The explicit midpoint rule, order 2, for fixed steps.
pub const MIDPOINT: Tableau = Tableau {
    name: Borrowed("midpoint"),
    source: Borrowed("Runge, Ueber die numerische Aufloesung von Differentialgleichungen, 1895"),
    order: 2,
    diagonal: Borrowed(&[]),
    a: Borrowed(&[1.0 / 2.0]),
    b: Borrowed(&[0.0, 1.0]),
    c: Borrowed(&[0.0, 1.0 / 2.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// Heun's method of order 2, the explicit trapezoidal rule, for fixed steps.
///
/// [`HEUN_EULER`](crate::HEUN_EULER) is the same method with an error estimate.
pub const HEUN: Tableau = Tableau {
    name: Borrowed("heun"),
    source: Borrowed("Heun, Neue Methoden zur approximativen Integration, 1900"),
    order: 2,
    diagonal: Borrowed(&[]),
    a: Borrowed(&[1.0]),
    b: Borrowed(&[1.0 / 2.0, 1.0 / 2.0]),
    c: Borrowed(&[0.0, 1.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// Ralston's method of order 2, whose error bound is the least of two-stage methods; fixed steps.
pub const RALSTON: Tableau = Tableau {
    name: Borrowed("ralston"),
    source: Borrowed("Ralston, Runge-Kutta methods with minimum error bounds, 1962"),
    order: 2,
    diagonal: Borrowed(&[]),
    a: Borrowed(&[2.0 / 3.0]),
    b: Borrowed(&[1.0 / 4.0, 3.0 / 4.0]),
    c: Borrowed(&[0.0, 2.0 / 3.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// The classical method of order 4, for fixed steps.
pub const RK4: Tableau = Tableau {
    name: Borrowed("rk4"),
    source: Borrowed("Kutta, Beitrag zur naeherungsweisen Integration, 1901"),
    order: 4,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 2.0,
        0.0, 1.0 / 2.0,
        0.0, 0.0, 1.0,
    ]),
    b: Borrowed(&[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0]),
    c: Borrowed(&[0.0, 1.0 / 2.0, 1.0 / 2.0, 1.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// Kutta's 3/8 rule of order 4, for fixed steps; this is what torchdiffeq calls rk4.
pub const RK4_38: Tableau = Tableau {
    name: Borrowed("rk4_38"),
    source: Borrowed("Kutta, Beitrag zur naeherungsweisen Integration, 1901"),
    order: 4,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 3.0,
        -1.0 / 3.0, 1.0,
        1.0, -1.0, 1.0,
    ]),
    b: Borrowed(&[1.0 / 8.0, 3.0 / 8.0, 3.0 / 8.0, 1.0 / 8.0]),
    c: Borrowed(&[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};
