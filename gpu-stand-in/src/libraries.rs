//! cuBLAS and cuRAND, as far as candle calls them: products are added up in double precision, random numbers
//! are the same in every run.
#![allow(non_snake_case, reason = "names of the libraries")]
#![allow(clippy::missing_safety_doc, reason = "NVIDIA's manuals say what each takes")]

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::{code, with};
use crate::memory::Memory;
use crate::numbers::{read, write};
use crate::ptx::Ty;

type Handle = *mut c_void;

macro_rules! idle {
    ($($name:ident($($ty:ty),*))*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($(_: $ty),*) -> c_int { 0 }
    )*};
}

idle! {
    cublasDestroy_v2(Handle)
    cublasSetStream_v2(Handle, Handle)
    curandDestroyGenerator(Handle)
    curandSetPseudoRandomGeneratorSeed(Handle, u64)
    curandSetStream(Handle, Handle)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasCreate_v2(to: *mut Handle) -> c_int {
    unsafe { to.write(1 as Handle) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn curandCreateGenerator(to: *mut Handle, _: c_uint) -> c_int {
    unsafe { cublasCreate_v2(to) }
}

/// Draws `count` numbers of a state that a linear congruential generator moves.
fn draw<T>(to: *mut T, count: usize, mut next: impl FnMut(&mut dyn FnMut() -> f64) -> T) -> c_int {
    let mut state = 1_u64;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let known = with("cuRAND", |gpu| gpu.memory.fill(to as u64, count * size_of::<T>()));
    if known.is_ok() {
        // SAFETY: so many numbers lie in an allocation.
        (0..count).for_each(|i| unsafe { to.add(i).write(next(&mut uniform)) });
    }
    code("random numbers", known)
}

fn normal(uniform: &mut dyn FnMut() -> f64) -> f64 {
    let radius = (-2.0 * uniform().ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform()).cos()
}

#[unsafe(no_mangle)]
pub extern "C" fn curandGenerateUniform(_: Handle, to: *mut f32, count: usize) -> c_int {
    draw(to, count, |uniform| uniform() as f32)
}

#[unsafe(no_mangle)]
pub extern "C" fn curandGenerateUniformDouble(_: Handle, to: *mut f64, count: usize) -> c_int {
    draw(to, count, |uniform| uniform())
}

#[unsafe(no_mangle)]
pub extern "C" fn curandGenerateNormal(
    _: Handle,
    to: *mut f32,
    count: usize,
    mean: f32,
    deviation: f32,
) -> c_int {
    draw(to, count, |uniform| mean + deviation * normal(uniform) as f32)
}

#[unsafe(no_mangle)]
pub extern "C" fn curandGenerateNormalDouble(
    _: Handle,
    to: *mut f64,
    count: usize,
    mean: f64,
    deviation: f64,
) -> c_int {
    draw(to, count, |uniform| mean + deviation * normal(uniform))
}

const NO_FLOAT: &str = "no floating-point type";

/// A stack of matrices, column by column.
#[derive(Clone, Copy)]
struct Matrices {
    start: u64,
    ty: Ty,
    /// Elements from one column to the next, and from one matrix to the next.
    column: usize,
    matrix: i64,
    transposed: bool,
}

impl Matrices {
    /// What a call says of one: where it starts, its type, the distances, and whether it is transposed.
    fn new(start: u64, ty: Ty, column: c_int, matrix: i64, transpose: c_uint) -> Self {
        Self { start, ty, column: column as usize, matrix, transposed: transpose != 0 }
    }

    fn address(self, batch: i64, row: usize, column: usize) -> u64 {
        let (row, column) = if self.transposed { (column, row) } else { (row, column) };
        let at = batch * self.matrix + (column * self.column + row) as i64;
        self.start + at as u64 * self.ty.bytes() as u64
    }

    fn get(
        self,
        memory: &mut Memory,
        batch: i64,
        row: usize,
        column: usize,
    ) -> Result<f64, String> {
        let address = self.address(batch, row, column);
        memory.check(address, self.ty.bytes())?;
        // SAFETY: so many bytes lie in an allocation.
        unsafe { read(self.ty, address) }.ok_or_else(|| NO_FLOAT.to_owned())
    }

    fn set(
        self,
        memory: &mut Memory,
        batch: i64,
        (row, column): (usize, usize),
        x: f64,
    ) -> Result<(), String> {
        let address = self.address(batch, row, column);
        memory.fill(address, self.ty.bytes())?;
        // SAFETY: as above.
        unsafe { write(self.ty, address, x) }.ok_or_else(|| NO_FLOAT.to_owned())
    }
}

/// `c = alpha a b + beta c` for each matrix of the stacks.
fn multiply(
    [m, n, k, batch]: [c_int; 4],
    [alpha, beta]: [f64; 2],
    [a, b, c]: [Matrices; 3],
) -> c_int {
    let [m, n, k] = [m, n, k].map(|size| size as usize);
    let product = |memory: &mut Memory| -> Result<(), String> {
        for i in 0..i64::from(batch) {
            let mut left = Vec::with_capacity(m * k);
            for (row, l) in (0..m).flat_map(|row| (0..k).map(move |l| (row, l))) {
                left.push(a.get(memory, i, row, l)?);
            }
            for column in 0..n {
                let right = (0..k).map(|l| b.get(memory, i, l, column));
                let right = right.collect::<Result<Vec<_>, _>>()?;
                for row in 0..m {
                    let sum: f64 =
                        left[row * k..][..k].iter().zip(&right).map(|(a, b)| a * b).sum();
                    let before =
                        if beta == 0.0 { 0.0 } else { beta * c.get(memory, i, row, column)? };
                    c.set(memory, i, (row, column), alpha * sum + before)?;
                }
            }
        }
        Ok(())
    };
    code("product of matrices", with("cuBLAS", |gpu| product(&mut gpu.memory)))
}

/// What cuBLAS calls a type.
fn type_of(number: c_uint) -> Ty {
    match number {
        0 => Ty::F32,
        1 => Ty::F64,
        2 => Ty::F16,
        14 => Ty::Bf16,
        // Refused when it is read.
        _ => Ty::Pred,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGemmStridedBatchedEx(
    _: Handle,
    transpose_a: c_uint,
    transpose_b: c_uint,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const f32,
    a: u64,
    a_type: c_uint,
    a_column: c_int,
    a_matrix: i64,
    b: u64,
    b_type: c_uint,
    b_column: c_int,
    b_matrix: i64,
    beta: *const f32,
    c: u64,
    c_type: c_uint,
    c_column: c_int,
    c_matrix: i64,
    batch: c_int,
    _: c_uint,
    _: c_int,
) -> c_int {
    let a = Matrices::new(a, type_of(a_type), a_column, a_matrix, transpose_a);
    let b = Matrices::new(b, type_of(b_type), b_column, b_matrix, transpose_b);
    let c = Matrices::new(c, type_of(c_type), c_column, c_matrix, 0);
    let factors = unsafe { [f64::from(*alpha), f64::from(*beta)] };
    multiply([m, n, k, batch], factors, [a, b, c])
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasDgemmStridedBatched(
    _: Handle,
    transpose_a: c_uint,
    transpose_b: c_uint,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const f64,
    a: u64,
    a_column: c_int,
    a_matrix: i64,
    b: u64,
    b_column: c_int,
    b_matrix: i64,
    beta: *const f64,
    c: u64,
    c_column: c_int,
    c_matrix: i64,
    batch: c_int,
) -> c_int {
    let a = Matrices::new(a, Ty::F64, a_column, a_matrix, transpose_a);
    let b = Matrices::new(b, Ty::F64, b_column, b_matrix, transpose_b);
    let c = Matrices::new(c, Ty::F64, c_column, c_matrix, 0);
    multiply([m, n, k, batch], unsafe { [*alpha, *beta] }, [a, b, c])
}
