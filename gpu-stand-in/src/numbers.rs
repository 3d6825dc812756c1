//! Numbers as the bits that registers hold.

use crate::ptx::{Round, Ty};

/// The lowest bits.
pub fn cut(x: u64, bits: u32) -> u64 {
    if bits >= 64 { x } else { x & ((1 << bits) - 1) }
}

/// The lowest bits as a signed number.
pub fn signed(x: u64, bits: u32) -> i64 {
    let unused = 64u32.saturating_sub(bits);
    (x << unused) as i64 >> unused
}

pub fn f32_of(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

pub fn of_f32(x: f32) -> u64 {
    x.to_bits().into()
}

pub fn f64_of(x: u64) -> f64 {
    f64::from_bits(x)
}

pub fn of_f64(x: f64) -> u64 {
    x.to_bits()
}

pub fn f16_of(x: u64) -> f32 {
    let (exponent, fraction) = ((x >> 10 & 31) as i32, (x & 1023) as f32 / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
    };
    if x >> 15 & 1 == 1 { -magnitude } else { magnitude }
}

/// To the nearest, ties to even.
pub fn of_f16(x: f32) -> u64 {
    let (sign, size) = (u64::from(x.to_bits() >> 31) << 15, f64::from(x.abs()));
    if x.is_nan() {
        return 0x7fff;
    }
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    let exponent = if size < 2f64.powi(-14) { -14 } else { size.log2().floor() as i32 };
    // In units of the last place; a carry into the exponent is what rounding up is.
    let units = (size / 2f64.powi(exponent - 10)).round_ties_even() as u64;
    sign | (units + ((exponent + 14) as u64) * 1024)
}

pub fn bf16_of(x: u64) -> f32 {
    f32::from_bits((x as u32) << 16)
}

/// To the nearest, ties to even.
pub fn of_bf16(x: f32) -> u64 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7fff } else { u64::from((bits + 0x7fff + (bits >> 16 & 1)) >> 16) }
}

/// A number of a floating-point type.
pub fn float_of(ty: Ty, x: u64) -> Option<f64> {
    Some(match ty {
        Ty::F64 => f64_of(x),
        Ty::F32 => f32_of(x).into(),
        Ty::F16 => f16_of(x).into(),
        Ty::Bf16 => bf16_of(x).into(),
        _ => return None,
    })
}

/// A result in a floating-point type.
pub fn of_float(ty: Ty, x: f64, round: Round) -> Option<u64> {
    Some(match ty {
        Ty::F64 => of_f64(x),
        Ty::F32 => of_f32(directed(x, round)),
        Ty::F16 => of_f16(x as f32),
        Ty::Bf16 => of_bf16(x as f32),
        _ => return None,
    })
}

/// Reads a number of a floating-point type.
///
/// # Safety
/// So many bytes lie at `from`.
pub unsafe fn read(ty: Ty, from: u64) -> Option<f64> {
    let mut bits = [0; 8];
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bits.as_mut_ptr(), ty.bytes()) };
    float_of(ty, u64::from_le_bytes(bits))
}

/// Writes the nearest number of a floating-point type.
///
/// # Safety
/// So many bytes lie at `to`.
pub unsafe fn write(ty: Ty, to: u64, x: f64) -> Option<()> {
    let bits = of_float(ty, x, Round::Nearest)?.to_le_bytes();
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(bits.as_ptr(), to as *mut u8, ty.bytes()) };
    Some(())
}

/// The `f32` at `x`, or that beside it on the side asked for.
pub fn directed(x: f64, round: Round) -> f32 {
    let near = x as f32;
    let (up, down) = (f64::from(near) < x, f64::from(near) > x);
    match round {
        Round::Down if down => near.next_down(),
        Round::Up if up => near.next_up(),
        Round::Zero if down && near > 0.0 => near.next_down(),
        Round::Zero if up && near < 0.0 => near.next_up(),
        _ => near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_types_keep_their_bits_on_the_way_through_f32() {
        for bits in (0..=0xffff).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(of_f16(f16_of(bits)), bits);
        }
        for bits in (0..=0xffff).filter(|bits| bits & 0x7f80 != 0x7f80) {
            assert_eq!(of_bf16(bf16_of(bits)), bits);
        }
    }

    #[test]
    fn half_types_round_to_the_nearest_and_ties_to_even() {
        assert_eq!(of_f16(1.0 + 2f32.powi(-11)), of_f16(1.0));
        assert_eq!(of_f16(1.0 + 3.0 * 2f32.powi(-11)), of_f16(1.0 + 2f32.powi(-9)));
        assert_eq!(of_f16(65519.0), of_f16(65504.0));
        assert_eq!(f16_of(of_f16(65520.0)), f32::INFINITY);
        assert_eq!(of_bf16(1.0 + 2f32.powi(-8)), of_bf16(1.0));
    }
}
