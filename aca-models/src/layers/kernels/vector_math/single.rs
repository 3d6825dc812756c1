//! Polynomials and bits of `f32`.

use super::{Elementary, polynomial};

impl Elementary for f32 {
    const LOG2_E: Self = std::f32::consts::LOG2_E;
    const LN2_HEAD: Self = 0.693_359_4;
    const LN2_TAIL: Self = -2.121_944_4e-4;
    const ROUND: Self = 12_582_912.0;
    const VANISHED: Self = 104.0;
    const SATURATED: Self = 19.0;
    const FAR: Self = 14.5;
    const BEND: Self = 4.0;

    #[inline(always)]
    fn expm1_series(r: Self) -> Self {
        polynomial!(
            r;
            0.5, 0.166_666_67, 0.041_666_467, 0.008_333_310_5, 0.001_393_365, 0.000_198_909_91
        )
    }

    #[inline(always)]
    fn atanh_series(square: Self) -> Self {
        polynomial!(
            square;
            0.333_333_34, 0.199_998_53, 0.142_961_79, 0.108_532_876, 0.116_121_65
        )
    }

    #[inline(always)]
    fn mills_series(t: Self) -> Self {
        polynomial!(
            t;
            0.188_821_29, -0.151_974_16, 0.096_784_346, -0.046_630_498, 0.015_099_161,
            -0.001_884_672_2, -0.000_869_985_7, 0.000_406_061_9, 3.341_010_6e-05,
            -5.444_276_8e-05, -4.314_980_8e-07, 5.494_761e-06
        )
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        self.copysign(sign)
    }

    #[inline(always)]
    fn head(self) -> Self {
        Self::from_bits(self.to_bits() & !0xfff)
    }

    #[inline(always)]
    fn power_of_two(self, shift: u8) -> Self {
        let bias = (127 + u32::from(shift)) << 23;
        Self::from_bits((self.to_bits() << 23).wrapping_add(bias))
    }
}
