//! What instructions make of numbers.

use crate::numbers::{
    bf16_of, cut, directed, f16_of, f32_of, f64_of, float_of, of_bf16, of_f16, of_f32, of_f64,
    of_float, signed,
};
use crate::ptx::{Compare, Instruction, Op, Round, Ty};

/// The result of an instruction on its operands; `None` for one that is not known.
pub fn compute(i: &Instruction, [a, b, c, e]: [u64; 4]) -> Option<u64> {
    let (ty, bits) = (i.ty, i.ty.bits());
    Some(match i.op {
        Op::Move => cut(a, bits),
        Op::Address => a,
        Op::Compare(how) => {
            let result = compare(ty, how, a, b);
            let has = |word: &str| i.words.iter().any(|other| other == word);
            u64::from(match c != 0 {
                c if has("and") => result && c,
                c if has("or") => result || c,
                c if has("xor") => result != c,
                _ => result,
            })
        }
        Op::Select => cut(if c != 0 { a } else { b }, bits),
        Op::Add(round) => two(ty, [a, b], round, |a, b| a + b, |a, b| a + b, i64::wrapping_add)?,
        Op::Sub(round) => two(ty, [a, b], round, |a, b| a - b, |a, b| a - b, i64::wrapping_sub)?,
        Op::Mul(round) => two(ty, [a, b], round, |a, b| a * b, |a, b| a * b, i64::wrapping_mul)?,
        Op::MulHigh => match ty {
            Ty::S(_) => {
                cut(((i128::from(whole(ty, a)) * i128::from(whole(ty, b))) >> bits) as u64, bits)
            }
            _ => ((u128::from(cut(a, bits)) * u128::from(cut(b, bits))) >> bits) as u64,
        },
        Op::MulWide => cut(whole(ty, a).wrapping_mul(whole(ty, b)) as u64, 2 * bits),
        Op::MulAdd => cut(a.wrapping_mul(b).wrapping_add(c), bits),
        Op::MulAddWide => {
            let product = whole(ty, a).wrapping_mul(whole(ty, b)) as u64;
            cut(product.wrapping_add(c), 2 * bits)
        }
        Op::Fma(round) => fused(ty, [a, b, c], round)?,
        Op::Div => two(ty, [a, b], Round::Nearest, |a, b| a / b, |a, b| a / b, divide(ty))?,
        Op::Rem => cut(remainder(ty, a, b)?, bits),
        Op::Neg => match ty {
            Ty::F32 | Ty::F64 | Ty::F16 | Ty::Bf16 => a ^ 1 << (bits - 1),
            _ => cut(a.wrapping_neg(), bits),
        },
        Op::Abs => match ty {
            Ty::F32 | Ty::F64 | Ty::F16 | Ty::Bf16 => a & !(1 << (bits - 1)),
            _ => cut(whole(ty, a).wrapping_abs() as u64, bits),
        },
        Op::Min => two(ty, [a, b], Round::Nearest, f32::min, f64::min, least(ty))?,
        Op::Max => two(ty, [a, b], Round::Nearest, f32::max, f64::max, most(ty))?,
        // The sign of the first operand, the magnitude of the second.
        Op::CopySign => {
            let sign = 1 << (bits - 1);
            a & sign | b & !sign
        }
        Op::Function(name) => function(name, ty, a)?,
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Not => cut(!a, bits),
        Op::ShiftLeft => {
            if b as u32 >= bits {
                0
            } else {
                cut(a << b, bits)
            }
        }
        Op::ShiftRight => match ty {
            Ty::S(_) => cut((whole(ty, a) >> (b as u32).min(bits - 1)) as u64, bits),
            _ => {
                if b as u32 >= bits {
                    0
                } else {
                    cut(a, bits) >> b
                }
            }
        },
        Op::Ones => cut(a, bits).count_ones().into(),
        Op::LeadingZeros => (cut(a, bits).leading_zeros() + bits - 64).into(),
        Op::Insert => {
            let (start, length) = (c as u32 & 255, e as u32 & 255);
            let mask = if start < bits { cut(cut(u64::MAX, length) << start, bits) } else { 0 };
            b & !mask | a.wrapping_shl(start) & mask
        }
        Op::Convert(round, saturates) => convert(i, a, round, saturates)?,
        _ => return None,
    })
}

/// An integer of a type.
fn whole(ty: Ty, x: u64) -> i64 {
    match ty {
        Ty::S(bits) => signed(x, bits.into()),
        ty => cut(x, ty.bits()) as i64,
    }
}

type Whole = fn(i64, i64) -> i64;

fn two(
    ty: Ty,
    [a, b]: [u64; 2],
    round: Round,
    single: fn(f32, f32) -> f32,
    double: fn(f64, f64) -> f64,
    integer: Whole,
) -> Option<u64> {
    Some(match ty {
        Ty::F32 if matches!(round, Round::Zero | Round::Down | Round::Up) => {
            of_f32(directed(double(f32_of(a).into(), f32_of(b).into()), round))
        }
        Ty::F32 => of_f32(single(f32_of(a), f32_of(b))),
        Ty::F64 => of_f64(double(f64_of(a), f64_of(b))),
        Ty::F16 => of_f16(single(f16_of(a), f16_of(b))),
        Ty::Bf16 => of_bf16(single(bf16_of(a), bf16_of(b))),
        Ty::Pred => return None,
        Ty::B(_) | Ty::U(_) | Ty::S(_) => {
            cut(integer(whole(ty, a), whole(ty, b)) as u64, ty.bits())
        }
    })
}

fn fused(ty: Ty, [a, b, c]: [u64; 3], round: Round) -> Option<u64> {
    Some(match ty {
        Ty::F32 if matches!(round, Round::Zero | Round::Down | Round::Up) => {
            let [a, b, c] = [a, b, c].map(|x| f64::from(f32_of(x)));
            of_f32(directed(a.mul_add(b, c), round))
        }
        Ty::F32 => of_f32(f32_of(a).mul_add(f32_of(b), f32_of(c))),
        Ty::F64 => of_f64(f64_of(a).mul_add(f64_of(b), f64_of(c))),
        Ty::F16 => of_f16(f16_of(a).mul_add(f16_of(b), f16_of(c))),
        Ty::Bf16 => of_bf16(bf16_of(a).mul_add(bf16_of(b), bf16_of(c))),
        _ => return None,
    })
}

// A GPU gives all ones for a quotient by zero.
fn divide(ty: Ty) -> Whole {
    match ty {
        Ty::S(_) => |a, b| a.checked_div(b).unwrap_or(-1),
        _ => |a, b| (a as u64).checked_div(b as u64).unwrap_or(u64::MAX) as i64,
    }
}

fn remainder(ty: Ty, a: u64, b: u64) -> Option<u64> {
    let (a, b) = (whole(ty, a), whole(ty, b));
    match ty {
        Ty::S(_) => a.checked_rem(b).map(|rest| rest as u64),
        _ => (a as u64).checked_rem(b as u64),
    }
}

fn least(ty: Ty) -> Whole {
    match ty {
        Ty::S(_) => i64::min,
        _ => |a, b| (a as u64).min(b as u64) as i64,
    }
}

fn most(ty: Ty) -> Whole {
    match ty {
        Ty::S(_) => i64::max,
        _ => |a, b| (a as u64).max(b as u64) as i64,
    }
}

/// Functions of one number; approximate ones are as exact as the host's.
fn function(name: &str, ty: Ty, a: u64) -> Option<u64> {
    let x = float_of(ty, a)?;
    let result = match name {
        "sqrt" => x.sqrt(),
        "rcp" => 1.0 / x,
        "rsqrt" => 1.0 / x.sqrt(),
        "ex2" => x.exp2(),
        "lg2" => x.log2(),
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tanh" => x.tanh(),
        _ => return None,
    };
    of_float(ty, result, Round::Nearest)
}

fn compare(ty: Ty, how: Compare, a: u64, b: u64) -> bool {
    let (order, nan) = match (float_of(ty, a), float_of(ty, b)) {
        (Some(a), Some(b)) => (a.partial_cmp(&b), a.is_nan() || b.is_nan()),
        _ => match ty {
            Ty::S(_) => (Some(whole(ty, a).cmp(&whole(ty, b))), false),
            ty => (Some(cut(a, ty.bits()).cmp(&cut(b, ty.bits()))), false),
        },
    };
    let order = |holds: fn(std::cmp::Ordering) -> bool| order.is_some_and(holds);
    match how {
        Compare::Eq => order(|o| o.is_eq()),
        Compare::Ne => order(|o| o.is_ne()),
        Compare::Lt => order(|o| o.is_lt()),
        Compare::Le => order(|o| o.is_le()),
        Compare::Gt => order(|o| o.is_gt()),
        Compare::Ge => order(|o| o.is_ge()),
        Compare::Equ => nan || order(|o| o.is_eq()),
        Compare::Neu => nan || order(|o| o.is_ne()),
        Compare::Ltu => nan || order(|o| o.is_lt()),
        Compare::Leu => nan || order(|o| o.is_le()),
        Compare::Gtu => nan || order(|o| o.is_gt()),
        Compare::Geu => nan || order(|o| o.is_ge()),
        Compare::Nan => nan,
        Compare::Number => !nan,
    }
}

fn convert(i: &Instruction, a: u64, round: Round, saturates: bool) -> Option<u64> {
    let (to, from) = (i.ty, i.from);
    let Some(x) = float_of(from, a) else {
        let x = whole(from, a);
        return match (to, from) {
            (Ty::F64 | Ty::F32 | Ty::F16, Ty::S(_)) => of_integer(to, x as f64, x as f32),
            (Ty::F64 | Ty::F32 | Ty::F16, _) => of_integer(to, x as u64 as f64, x as u64 as f32),
            _ => Some(cut(x as u64, to.bits())),
        };
    };
    let x = match round {
        Round::ToEven => x.round_ties_even(),
        Round::Truncate => x.trunc(),
        Round::Floor => x.floor(),
        Round::Ceiling => x.ceil(),
        _ => x,
    };
    let x = match saturates && float_of(to, 0).is_some() {
        true if x.is_nan() => 0.0,
        true => x.clamp(0.0, 1.0),
        false => x,
    };
    of_float(to, x, round).or(match to {
        // Beyond a type's range its nearest number.
        Ty::S(bits) => {
            let largest = signed(u64::MAX >> 1 >> (64 - bits), 64);
            Some(cut((x as i64).clamp(-largest - 1, largest) as u64, bits.into()))
        }
        Ty::U(bits) => Some((x as u64).min(cut(u64::MAX, bits.into()))),
        _ => None,
    })
}

/// An integer as a floating-point number, rounded once.
fn of_integer(ty: Ty, double: f64, single: f32) -> Option<u64> {
    match ty {
        Ty::F64 => Some(of_f64(double)),
        Ty::F32 => Some(of_f32(single)),
        _ => Some(of_f16(single)),
    }
}
