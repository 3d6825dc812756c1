//! Linear systems whose matrix is a band.

/// The shape of a band: so many rows, with so many places below and above the diagonal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    pub(super) size: usize,
    pub(super) lower: usize,
    pub(super) upper: usize,
}

impl Band {
    /// Numbers of a row: exchanges of rows fill as many places above the band as there are below the diagonal.
    fn width(self) -> usize {
        2 * self.lower + self.upper + 1
    }

    /// Numbers that are kept.
    pub(super) fn len(self) -> usize {
        self.size * self.width()
    }

    /// Where an entry lies.
    #[inline]
    pub(super) fn at(self, row: usize, column: usize) -> usize {
        row * self.width() + column + self.lower - row
    }

    /// The last row that has an entry in a column, and one beyond the last column that has one in a row.
    fn reach(self, i: usize) -> (usize, usize) {
        let last = (i + self.lower).min(self.size - 1);
        (last, (i + self.lower + self.upper + 1).min(self.size))
    }

    /// Factors a matrix in place into `P A = L U` with row pivots; `false` if it is singular or not finite.
    pub(super) fn factor(self, a: &mut [f64], pivots: &mut [u32]) -> bool {
        for column in 0..self.size {
            let (last, end) = self.reach(column);
            let size = |row: usize| a[self.at(row, column)].abs();
            let pivot =
                (column..=last).max_by(|&i, &j| size(i).total_cmp(&size(j))).unwrap_or(column);
            pivots[column] = pivot as u32;
            let largest = size(pivot);
            if largest == 0.0 || !largest.is_finite() {
                return false;
            }
            if pivot != column {
                (column..end).for_each(|j| a.swap(self.at(column, j), self.at(pivot, j)));
            }
            for row in column + 1..=last {
                let factor = a[self.at(row, column)] / a[self.at(column, column)];
                a[self.at(row, column)] = factor;
                if factor != 0.0 && column + 1 < end {
                    let (upper, lower) = a.split_at_mut(self.at(row, column + 1));
                    let own = &upper[self.at(column, column + 1)..=self.at(column, end - 1)];
                    for (x, y) in lower.iter_mut().zip(own) {
                        *x -= factor * y;
                    }
                }
            }
        }
        true
    }

    /// Solves `A x = b` in place by the factors of `A`.
    pub(super) fn solve(self, a: &[f64], pivots: &[u32], b: &mut [f64]) {
        for column in 0..self.size {
            b.swap(column, pivots[column] as usize);
            let x = b[column];
            (column + 1..=self.reach(column).0)
                .for_each(|row| b[row] -= a[self.at(row, column)] * x);
        }
        for row in (0..self.size).rev() {
            let end = self.reach(row).1;
            let own = &a[self.at(row, row)..=self.at(row, end - 1)];
            let sum: f64 = own[1..].iter().zip(&b[row + 1..end]).map(|(a, x)| a * x).sum();
            b[row] = (b[row] - sum) / own[0];
        }
    }

    /// Solves `A^T x = b` in place by the factors of `A`.
    pub(super) fn solve_transposed(self, a: &[f64], pivots: &[u32], b: &mut [f64]) {
        for row in 0..self.size {
            let end = self.reach(row).1;
            let own = &a[self.at(row, row)..=self.at(row, end - 1)];
            b[row] /= own[0];
            let x = b[row];
            b[row + 1..end].iter_mut().zip(&own[1..]).for_each(|(b, u)| *b -= u * x);
        }
        for column in (0..self.size).rev() {
            let below = column + 1..=self.reach(column).0;
            let sum: f64 = below.map(|row| a[self.at(row, column)] * b[row]).sum();
            b[column] -= sum;
            b.swap(column, pivots[column] as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Band;

    #[test]
    fn factors_solve_a_band_and_its_transpose() {
        for (size, lower, upper) in [(7, 2, 1), (6, 0, 3), (5, 4, 4), (1, 0, 0), (9, 3, 0)] {
            let band = Band { size, lower, upper };
            // Small diagonals, so that rows are exchanged.
            let entry = |i: usize, j: usize| {
                let inside = j + lower >= i && j <= i + upper;
                let x = (1.3 + (i * i + 3 * j) as f64).sin() * if i == j { 0.3 } else { 1.0 };
                if inside { x + 1e-3 } else { 0.0 }
            };
            let x: Vec<f64> = (0..size).map(|i| 1.0 + i as f64).collect();
            let times = |transposed: bool| -> Vec<f64> {
                let at = |i, j| if transposed { entry(j, i) } else { entry(i, j) };
                (0..size).map(|i| (0..size).map(|j| at(i, j) * x[j]).sum()).collect()
            };
            let (mut a, mut pivots) = (vec![0.0; band.len()], vec![0; size]);
            for i in 0..size {
                for j in i.saturating_sub(lower)..(i + upper + 1).min(size) {
                    a[band.at(i, j)] = entry(i, j);
                }
            }
            assert!(band.factor(&mut a, &mut pivots));
            let (mut b, mut c) = (times(false), times(true));
            band.solve(&a, &pivots, &mut b);
            band.solve_transposed(&a, &pivots, &mut c);
            for found in [b, c] {
                for (found, x) in found.iter().zip(&x) {
                    assert!((found - x).abs() < 1e-9, "{size} {lower} {upper}: {found} for {x}");
                }
            }
        }
        let band = Band { size: 2, lower: 1, upper: 1 };
        assert!(!band.factor(&mut vec![0.0; band.len()], &mut [0; 2]), "singular");
    }
}
