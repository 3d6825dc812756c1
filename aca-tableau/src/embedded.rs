use std::borrow::Cow::Borrowed;

use crate::tableau::{Embedded, Tableau};

/// Heun's method of order 2 with Euler's as its error estimate, the cheapest adaptive pair.
pub const HEUN_EULER: Tableau = Tableau {
    name: Borrowed("heun_euler"),
    source: Borrowed(
        "Heun, Neue Methoden zur approximativen Integration, 1900; Euler's step embedded",
    ),
    order: 2,
    diagonal: Borrowed(&[]),
    a: Borrowed(&[1.0]),
    b: Borrowed(&[1.0 / 2.0, 1.0 / 2.0]),
    c: Borrowed(&[0.0, 1.0]),
    embedded: Borrowed(&[Embedded { order: 1, b_hat: Borrowed(&[1.0, 0.0]) }]),
    interpolant: None,
};

/// The pair 3(2) of Bogacki and Shampine, four stages and FSAL: for loose tolerances.
pub const BOSH3: Tableau = Tableau {
    name: Borrowed("bosh3"),
    source: Borrowed("Bogacki and Shampine, A 3(2) pair of Runge-Kutta formulas, 1989"),
    order: 3,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 2.0,
        0.0, 3.0 / 4.0,
        2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0,
    ]),
    b: Borrowed(&[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0, 0.0]),
    c: Borrowed(&[0.0, 1.0 / 2.0, 3.0 / 4.0, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 2,
        b_hat: Borrowed(&[7.0 / 24.0, 1.0 / 4.0, 1.0 / 3.0, 1.0 / 8.0]),
    }]),
    interpolant: None,
};

/// Fehlberg's pair 4(5), six stages.
///
/// It propagates the solution of order 4, whose error terms are small. The solution of order 5 is used for the error
/// estimate only.
pub const FEHLBERG45: Tableau = Tableau {
    name: Borrowed("fehlberg45"),
    source: Borrowed("Fehlberg, Low-order classical Runge-Kutta formulas, NASA TR R-315, 1969"),
    order: 4,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 4.0,
        3.0 / 32.0, 9.0 / 32.0,
        1932.0 / 2197.0, -7200.0 / 2197.0, 7296.0 / 2197.0,
        439.0 / 216.0, -8.0, 3680.0 / 513.0, -845.0 / 4104.0,
        -8.0 / 27.0, 2.0, -3544.0 / 2565.0, 1859.0 / 4104.0, -11.0 / 40.0,
    ]),
    b: Borrowed(&[25.0 / 216.0, 0.0, 1408.0 / 2565.0, 2197.0 / 4104.0, -1.0 / 5.0, 0.0]),
    c: Borrowed(&[0.0, 1.0 / 4.0, 3.0 / 8.0, 12.0 / 13.0, 1.0, 1.0 / 2.0]),
    #[rustfmt::skip]
    embedded: Borrowed(&[Embedded {
        order: 5,
        b_hat: Borrowed(&[
            16.0 / 135.0, 0.0, 6656.0 / 12825.0, 28561.0 / 56430.0, -9.0 / 50.0, 2.0 / 55.0,
        ]),
    }]),
    interpolant: None,
};

/// The pair 5(4) of Cash and Karp, six stages.
pub const CASH_KARP: Tableau = Tableau {
    name: Borrowed("cash_karp"),
    source: Borrowed(
        "Cash and Karp, A variable order Runge-Kutta method for initial value problems \
         with rapidly varying right-hand sides, 1990",
    ),
    order: 5,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 5.0,
        3.0 / 40.0, 9.0 / 40.0,
        3.0 / 10.0, -9.0 / 10.0, 6.0 / 5.0,
        -11.0 / 54.0, 5.0 / 2.0, -70.0 / 27.0, 35.0 / 27.0,
        1631.0 / 55296.0, 175.0 / 512.0, 575.0 / 13824.0, 44275.0 / 110592.0, 253.0 / 4096.0,
    ]),
    b: Borrowed(&[37.0 / 378.0, 0.0, 250.0 / 621.0, 125.0 / 594.0, 0.0, 512.0 / 1771.0]),
    c: Borrowed(&[0.0, 1.0 / 5.0, 3.0 / 10.0, 3.0 / 5.0, 1.0, 7.0 / 8.0]),
    #[rustfmt::skip]
    embedded: Borrowed(&[Embedded {
        order: 4,
        b_hat: Borrowed(&[
            2825.0 / 27648.0, 0.0, 18575.0 / 48384.0, 13525.0 / 55296.0, 277.0 / 14336.0, 1.0 / 4.0,
        ]),
    }]),
    interpolant: None,
};
