//! Small dense linear systems.

/// Factors a matrix of `n` rows, row-major and in place, into `P A = L U` with row pivots; `false` if it is singular or
/// not finite.
pub(super) fn factor(a: &mut [f64], pivots: &mut [u32]) -> bool {
    let n = pivots.len();
    for column in 0..n {
        let size = |row: usize| a[row * n + column].abs();
        let pivot = (column..n).max_by(|&i, &j| size(i).total_cmp(&size(j))).unwrap_or(column);
        pivots[column] = pivot as u32;
        let largest = size(pivot);
        if largest == 0.0 || !largest.is_finite() {
            return false;
        }
        if pivot != column {
            let (upper, lower) = a.split_at_mut(pivot * n);
            upper[column * n..][..n].swap_with_slice(&mut lower[..n]);
        }
        let (upper, lower) = a.split_at_mut((column + 1) * n);
        let own = &upper[column * n..][..n];
        for row in lower.chunks_exact_mut(n) {
            let factor = row[column] / own[column];
            row[column] = factor;
            if factor != 0.0 {
                for (x, y) in row[column + 1..].iter_mut().zip(&own[column + 1..]) {
                    *x -= factor * y;
                }
            }
        }
    }
    true
}

/// Solves `A x = b` in place by the factors of `A`.
pub(super) fn solve(a: &[f64], pivots: &[u32], b: &mut [f64]) {
    let n = pivots.len();
    for (row, &pivot) in pivots.iter().enumerate() {
        b.swap(row, pivot as usize);
    }
    for row in 0..n {
        let sum: f64 = a[row * n..][..row].iter().zip(&b[..row]).map(|(a, x)| a * x).sum();
        b[row] -= sum;
    }
    for row in (0..n).rev() {
        let own = &a[row * n..][..n];
        let sum: f64 = own[row + 1..].iter().zip(&b[row + 1..]).map(|(a, x)| a * x).sum();
        b[row] = (b[row] - sum) / own[row];
    }
}

/// Solves `A^T x = b` in place by the factors of `A`.
pub(super) fn solve_transposed(a: &[f64], pivots: &[u32], b: &mut [f64]) {
    let n = pivots.len();
    // U^T first, then L^T, by columns: rows of the factors are what lies together.
    for row in 0..n {
        let own = &a[row * n..][..n];
        b[row] /= own[row];
        let x = b[row];
        for (b, u) in b[row + 1..].iter_mut().zip(&own[row + 1..]) {
            *b -= u * x;
        }
    }
    for row in (0..n).rev() {
        let x = b[row];
        for (b, l) in b[..row].iter_mut().zip(&a[row * n..][..row]) {
            *b -= l * x;
        }
    }
    for (row, &pivot) in pivots.iter().enumerate().rev() {
        b.swap(row, pivot as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::{factor, solve, solve_transposed};

    #[test]
    fn factors_solve_a_system_and_its_transpose() {
        let n = 5;
        let entry =
            |i: usize, j: usize| (1.3 + (i * i + 3 * j) as f64).sin() - 0.4 * (i == j) as u8 as f64;
        let a: Vec<f64> = (0..n * n).map(|m| entry(m / n, m % n)).collect();
        let x: Vec<f64> = (0..n).map(|i| 1.0 + i as f64).collect();
        let times = |transposed: bool| -> Vec<f64> {
            let at = |i: usize, j: usize| if transposed { a[j * n + i] } else { a[i * n + j] };
            (0..n).map(|i| (0..n).map(|j| at(i, j) * x[j]).sum()).collect()
        };
        let (mut lu, mut pivots) = (a.clone(), vec![0; n]);
        assert!(factor(&mut lu, &mut pivots));
        let (mut b, mut c) = (times(false), times(true));
        solve(&lu, &pivots, &mut b);
        solve_transposed(&lu, &pivots, &mut c);
        for found in [b, c] {
            for (found, x) in found.iter().zip(&x) {
                assert!((found - x).abs() < 1e-11, "{found} for {x}");
            }
        }
        assert!(!factor(&mut [1.0, 2.0, 2.0, 4.0], &mut [0; 2]), "singular");
        assert!(!factor(&mut [f64::NAN, 2.0, 2.0, 4.0], &mut [0; 2]), "not a number");
    }
}
