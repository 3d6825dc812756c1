//! Matrix products by `gemm`, with the number of threads chosen by size.
#![allow(unsafe_code, reason = "gemm takes raw pointers")]

use gemm::Parallelism;

use crate::Real;

/// Multiplications below which one thread is as fast as two: measured on 2 cores of an AVX-512 server,
/// where a product of 5 M multiplications takes 44 us on one and 51 us on two.
const SHARED: usize = 5_000_000;

/// A matrix inside a slice; strides count elements.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix that fills `data`.
    pub(crate) fn row_major(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, (rows, columns), (columns, 1))
    }

    /// A matrix with any strides.
    pub(crate) fn strided(
        data: &'a [T],
        (rows, columns): (usize, usize),
        (row_stride, column_stride): (usize, usize),
    ) -> Self {
        assert!(fits(data.len(), (rows, columns), (row_stride, column_stride)));
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// The same matrix with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self {
            data,
            rows: columns,
            columns: rows,
            row_stride: column_stride,
            column_stride: row_stride,
        }
    }
}

/// How many threads share a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threads {
    /// The caller's alone, because the caller is one of many already.
    One,
    /// All of rayon's, if the product is large enough.
    All,
}

/// `c = a b`, or `c += a b` when `add`; `c` is a matrix with rows `row_stride` apart and adjacent
/// columns.
pub(crate) fn matmul<T: Real>(
    c: &mut [T],
    row_stride: usize,
    add: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "the product's inner sizes differ");
    assert!(row_stride >= b.columns && fits(c.len(), (a.rows, b.columns), (row_stride, 1)));
    let size = a.rows * a.columns * b.columns;
    let parallelism = match threads {
        Threads::All if size > SHARED => Parallelism::Rayon(rayon::current_num_threads()),
        _ => Parallelism::None,
    };
    // SAFETY: both constructors and the lines above checked that every entry lies inside its slice;
    // `c` is borrowed mutably, so it overlaps neither `a` nor `b`; its rows do not overlap each other.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            c.as_mut_ptr(),
            1,
            row_stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Whether a matrix of this size and these strides lies inside `len` elements.
fn fits(len: usize, (rows, columns): (usize, usize), strides: (usize, usize)) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * strides.0 + (columns - 1) * strides.1 < len
}
