#![expect(
    clippy::excessive_precision,
    reason = "the paper's decimals, which have no closed form, with more digits than f64 holds"
)]

use std::borrow::Cow::Borrowed;

use crate::interpolant::InterpolantTable;
use crate::tableau::{Embedded, Tableau};

/// The pair 5(4) of Tsitouras, seven stages and FSAL: the default when nothing special is known.
///
/// Its error constants are smaller than those of [`DOPRI5`](crate::DOPRI5) at the same cost. Dense
/// output is the paper's quartic, which needs no further evaluation; it is held as the quartics'
/// leading coefficients, from which end values and end slopes fix the rest.
///
/// # Source
/// Tsitouras, Comput. Math. Appl. 62, 2011, pp. 770-775, to 20 digits.
pub const TSIT5: Tableau = Tableau {
    name: Borrowed("tsit5"),
    source: Borrowed(
        "Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column \
         simplifying assumption, 2011",
    ),
    order: 5,
    diagonal: Borrowed(&[]),
    #[rustfmt::skip]
    a: Borrowed(&[
        161.0 / 1000.0,
        -0.0084806554923569885444, 0.33548065549235698854,
        2.8971530571054934321, -6.3594484899750748431, 4.3622954328695814110,
        5.3258648284392566044, -11.748883564062827878, 7.4955393428898362083,
        -0.092495066361755249257,
        5.8614554429464200287, -12.920969317847109292, 8.1593678985761586432,
        -0.071584973281400997225, -0.028269050394068382909,
        0.096460766818065229518, 1.0 / 100.0, 0.47988965041449957478, 1.3790085741037418932,
        -3.2900695154360806799, 2.3247105240997739824,
    ]),
    #[rustfmt::skip]
    b: Borrowed(&[
        0.096460766818065229518, 1.0 / 100.0, 0.47988965041449957478, 1.3790085741037418932,
        -3.2900695154360806799, 2.3247105240997739824, 0.0,
    ]),
    #[rustfmt::skip]
    c: Borrowed(&[
        0.0, 161.0 / 1000.0, 327.0 / 1000.0, 9.0 / 10.0, 0.98002554090450968573, 1.0, 1.0,
    ]),
    #[rustfmt::skip]
    embedded: Borrowed(&[Embedded {
        order: 4,
        b_hat: Borrowed(&[
            0.094680755765839458075, 0.0091835655403432530968, 0.48777052842476157079,
            1.2342975669304789857, -2.7077123499835254549, 1.8666284181705870358, 1.0 / 66.0,
        ]),
    }]),
    interpolant: Some(InterpolantTable {
        order: 4,
        a: Borrowed(&[]),
        c: Borrowed(&[]),
        #[rustfmt::skip]
        d: Borrowed(&[
            -1.0530884977290215572, 0.1017, 2.4906272856512527931, -16.548102889244902718,
            47.379521962819281219, -34.870657861496609736, 5.0 / 2.0,
        ]),
    }),
};
