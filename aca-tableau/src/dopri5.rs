use std::borrow::Cow::Borrowed;

use crate::interpolant::InterpolantTable;
use crate::tableau::{Embedded, Tableau};

/// The pair 5(4) of Dormand and Prince, seven stages and FSAL: what most programs call RK45.
///
/// The error estimate is that of the paper. Some libraries use Shampine's instead, and take other steps. Dense output
/// is Shampine's quartic, which needs no further evaluation.
///
/// # Source
/// Dormand, Prince, J. Comput. Appl. Math. 6, 1980. Interpolant: Hairer, Norsett, Wanner, Solving
/// Ordinary Differential Equations I, II.6, and the code DOPRI5.
pub const DOPRI5: Tableau = Tableau {
    name: Borrowed("dopri5"),
    source: Borrowed("Dormand and Prince, A family of embedded Runge-Kutta formulae, 1980"),
    order: 5,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        1.0 / 5.0,
        3.0 / 40.0, 9.0 / 40.0,
        44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0,
        19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0,
        9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0,
        35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0,
    ]),
    #[rustfmt::skip]
    b: Borrowed(&[
        35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0, 0.0,
    ]),
    c: Borrowed(&[0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0]),
    #[rustfmt::skip]
    embedded: Borrowed(&[Embedded {
        order: 4,
        b_hat: Borrowed(&[
            5179.0 / 57600.0, 0.0, 7571.0 / 16695.0, 393.0 / 640.0, -92097.0 / 339200.0,
            187.0 / 2100.0, 1.0 / 40.0,
        ]),
    }]),
    interpolant: Some(InterpolantTable {
        order: 4,
        a: Borrowed(&[]),
        c: Borrowed(&[]),
        #[rustfmt::skip]
        d: Borrowed(&[
            -12715105075.0 / 11282082432.0, 0.0, 87487479700.0 / 32700410799.0,
            -10690763975.0 / 1880347072.0, 701980252875.0 / 199316789632.0,
            -1453857185.0 / 822651844.0, 69997945.0 / 29380423.0,
        ]),
    }),
};
