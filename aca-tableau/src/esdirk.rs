#![allow(
    clippy::excessive_precision,
    reason = "coefficients stand as they were computed, to 18 digits"
)]

use std::borrow::Cow::Borrowed;

use crate::interpolant::InterpolantTable;
use crate::tableau::{Embedded, Tableau};

/// The implicit Euler rule, order 1: L-stable, for fixed steps.
pub const IMPLICIT_EULER: Tableau = Tableau {
    name: Borrowed("implicit_euler"),
    source: Borrowed("Cauchy, lectures of 1824; Hairer and Wanner II, IV.1"),
    order: 1,
    diagonal: Borrowed(&[1.0]),
    a: Borrowed(&[]),
    b: Borrowed(&[1.0]),
    c: Borrowed(&[1.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// The trapezoidal rule, order 2: A-stable, but the fastest decays remain as oscillations; for fixed steps.
pub const TRAPEZOID: Tableau = Tableau {
    name: Borrowed("trapezoid"),
    source: Borrowed(
        "Crank and Nicolson, A practical method for numerical evaluation of solutions, 1947",
    ),
    order: 2,
    diagonal: Borrowed(&[0.0, 1.0 / 2.0]),
    a: Borrowed(&[1.0 / 2.0]),
    b: Borrowed(&[1.0 / 2.0, 1.0 / 2.0]),
    c: Borrowed(&[0.0, 1.0]),
    embedded: Borrowed(&[]),
    interpolant: None,
};

/// TR-BDF2, order 2 with an estimate of order 3: L-stable, three stages, cheap at loose tolerances.
pub const TR_BDF2: Tableau = Tableau {
    name: Borrowed("tr_bdf2"),
    source: Borrowed(
        "Bank et al., 1985; Hosea and Shampine, Analysis and implementation of TR-BDF2, 1996",
    ),
    order: 2,
    diagonal: Borrowed(&[0.0, 0.292_893_218_813_452_476, 0.292_893_218_813_452_476]),
    #[rustfmt::skip]
    a: Borrowed(&[
        0.292_893_218_813_452_476,
        0.353_553_390_593_273_762, 0.353_553_390_593_273_762,
    ]),
    b: Borrowed(&[0.353_553_390_593_273_762, 0.353_553_390_593_273_762, 0.292_893_218_813_452_476]),
    c: Borrowed(&[0.0, 0.585_786_437_626_904_951, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 3,
        b_hat: Borrowed(&[
            0.215_482_203_135_575_413,
            0.686_886_723_926_607_096,
            0.097_631_072_937_817_491_9,
        ]),
    }]),
    interpolant: None,
};

/// Kvaerno's pair 3(2), four stages: both solutions are stiffly accurate and L-stable.
pub const KVAERNO3: Tableau = Tableau {
    name: Borrowed("kvaerno3"),
    source: Borrowed(
        "Kvaerno, Singly diagonally implicit Runge-Kutta methods with an explicit first stage, 2004",
    ),
    order: 3,
    diagonal: Borrowed(&[
        0.0,
        0.435_866_521_508_458_999,
        0.435_866_521_508_458_999,
        0.435_866_521_508_458_999,
    ]),
    #[rustfmt::skip]
    a: Borrowed(&[
        0.435_866_521_508_458_999,
        0.490_563_388_421_780_571, 0.073_570_090_069_760_43,
        0.308_809_969_976_746_523, 1.490_563_388_421_780_57, -1.235_239_879_906_986_09,
    ]),
    b: Borrowed(&[
        0.308_809_969_976_746_523,
        1.490_563_388_421_780_57,
        -1.235_239_879_906_986_09,
        0.435_866_521_508_458_999,
    ]),
    c: Borrowed(&[0.0, 0.871_733_043_016_917_999, 1.0, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 2,
        b_hat: Borrowed(&[
            0.490_563_388_421_780_571,
            0.073_570_090_069_760_43,
            0.435_866_521_508_458_999,
            0.0,
        ]),
    }]),
    interpolant: None,
};

/// Kvaerno's pair 4(3), five stages: both solutions are stiffly accurate. Its second stage lies beyond the step.
pub const KVAERNO4: Tableau = Tableau {
    name: Borrowed("kvaerno4"),
    source: Borrowed(
        "Kvaerno, Singly diagonally implicit Runge-Kutta methods with an explicit first stage, 2004",
    ),
    order: 4,
    diagonal: Borrowed(&[
        0.0,
        0.572_816_062_482_134_855,
        0.572_816_062_482_134_855,
        0.572_816_062_482_134_855,
        0.572_816_062_482_134_855,
    ]),
    #[rustfmt::skip]
    a: Borrowed(&[
        0.572_816_062_482_134_855,
        0.167_235_462_027_210_751, -0.142_946_536_857_034_113,
        0.262_603_290_252_695_818, -0.311_904_327_420_563_153, 0.476_484_974_685_732_48,
        0.197_216_548_312_834_996, 0.176_843_783_906_372_186, 0.815_442_181_350_838_447, -0.762_318_576_052_180_485,
    ]),
    b: Borrowed(&[
        0.197_216_548_312_834_996,
        0.176_843_783_906_372_186,
        0.815_442_181_350_838_447,
        -0.762_318_576_052_180_485,
        0.572_816_062_482_134_855,
    ]),
    c: Borrowed(&[0.0, 1.145_632_124_964_269_71, 0.597_104_987_652_311_493, 1.0, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 3,
        b_hat: Borrowed(&[
            0.262_603_290_252_695_818,
            -0.311_904_327_420_563_153,
            0.476_484_974_685_732_48,
            0.572_816_062_482_134_855,
            0.0,
        ]),
    }]),
    interpolant: None,
};

/// Kennedy and Carpenter's pair 4(3), the implicit part of ARK4(3)6L\[2\]SA: six stages of order 2, all inside the step.
/// The interpolant solves the conditions of order 4, with the least error of order 5 at the middle of the step.
pub const ESDIRK4: Tableau = Tableau {
    name: Borrowed("esdirk4"),
    source: Borrowed(
        "Kennedy and Carpenter, Additive Runge-Kutta schemes for convection-diffusion-reaction equations, 2003",
    ),
    order: 4,
    diagonal: Borrowed(&[0.0, 0.25, 0.25, 0.25, 0.25, 0.25]),
    #[rustfmt::skip]
    a: Borrowed(&[
        0.25,
        8611.0 / 62500.0, -1743.0 / 31250.0,
        5012029.0 / 34652500.0, -654441.0 / 2922500.0, 174375.0 / 388108.0,
        15267082809.0 / 155376265600.0, -71443401.0 / 120774400.0, 730878875.0 / 902184768.0, 2285395.0 / 8070912.0,
        82889.0 / 524892.0, 0.0, 15625.0 / 83664.0, 69875.0 / 102672.0, -2260.0 / 8211.0,
    ]),
    b: Borrowed(&[
        82889.0 / 524892.0,
        0.0,
        15625.0 / 83664.0,
        69875.0 / 102672.0,
        -2260.0 / 8211.0,
        0.25,
    ]),
    c: Borrowed(&[0.0, 0.5, 83.0 / 250.0, 31.0 / 50.0, 17.0 / 20.0, 1.0]),
    embedded: Borrowed(&[Embedded {
        order: 3,
        b_hat: Borrowed(&[
            4586570599.0 / 29645900160.0,
            0.0,
            178811875.0 / 945068544.0,
            814220225.0 / 1159782912.0,
            -3700637.0 / 11593932.0,
            61727.0 / 225920.0,
        ]),
    }]),
    interpolant: Some(InterpolantTable {
        order: 4,
        a: Borrowed(&[]),
        c: Borrowed(&[]),
        d: Borrowed(&[
            -1.538_195_190_012_679_37,
            -1.323_498_598_193_363_15,
            5.904_599_421_037_496_4,
            -5.767_219_037_419_481_02,
            2.981_435_400_504_774_23,
            -0.257_121_995_916_747_091,
        ]),
    }),
};

/// Kvaerno's pair 5(4), seven stages: both solutions are stiffly accurate. Its third stage lies beyond the step.
/// The interpolant is the shortest solution of the conditions of order 4.
pub const KVAERNO5: Tableau = Tableau {
    name: Borrowed("kvaerno5"),
    source: Borrowed(
        "Kvaerno, Singly diagonally implicit Runge-Kutta methods with an explicit first stage, 2004",
    ),
    order: 5,
    diagonal: Borrowed(&[0.0, 0.26, 0.26, 0.26, 0.26, 0.26, 0.26]),
    #[rustfmt::skip]
    a: Borrowed(&[
        0.26,
        0.13, 0.840_333_209_967_908_09,
        0.223_719_614_783_205_05, 0.476_755_323_197_996_99, -0.064_708_953_631_126_15,
        0.166_485_643_232_483_21, 0.104_500_188_415_917_20, 0.036_314_822_720_987_15, -0.130_907_044_510_739_98,
        0.138_556_402_312_682_24, 0.0, -0.042_453_372_017_520_43, 0.024_466_578_980_031_41, 0.619_430_390_724_806_76,
        0.136_597_511_776_402_91, 0.0, -0.054_969_087_965_383_76, -0.041_186_267_283_210_46, 0.629_933_048_990_164_03, 0.069_624_794_482_027_28,
    ]),
    b: Borrowed(&[
        0.136_597_511_776_402_91,
        0.0,
        -0.054_969_087_965_383_76,
        -0.041_186_267_283_210_46,
        0.629_933_048_990_164_03,
        0.069_624_794_482_027_28,
        0.26,
    ]),
    c: Borrowed(&[
        0.0,
        0.52,
        1.230_333_209_967_908_09,
        0.895_765_984_350_075_89,
        0.436_393_609_858_647_58,
        1.0,
        1.0,
    ]),
    embedded: Borrowed(&[Embedded {
        order: 4,
        b_hat: Borrowed(&[
            0.138_556_402_312_682_24,
            0.0,
            -0.042_453_372_017_520_43,
            0.024_466_578_980_031_41,
            0.619_430_390_724_806_76,
            0.26,
            0.0,
        ]),
    }]),
    interpolant: Some(InterpolantTable {
        order: 4,
        a: Borrowed(&[]),
        c: Borrowed(&[]),
        d: Borrowed(&[
            -0.484_249_349_645_859_173,
            0.0,
            0.992_174_701_180_346_118,
            -0.624_108_033_102_156_371,
            1.380_100_427_378_425_26,
            -0.631_958_872_905_377_774,
            -0.631_958_872_905_377_774,
        ]),
    }),
};
