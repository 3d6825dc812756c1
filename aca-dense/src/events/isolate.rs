//! Where a polynomial may be zero.

/// Turns the values of polynomials at equally spaced points into their coefficients over Bernstein's basis, whose
/// changes of sign are never fewer than the polynomial's zeros between its ends.
#[derive(Clone, Debug)]
pub(crate) struct Bernstein {
    degree: usize,
    /// Row-major, the inverse of the matrix of basis polynomials at the points.
    inverse: Vec<f64>,
}

/// Part of the largest coefficient that rounding may make of zero.
const ROUNDING: f64 = 1e-13;

/// Halvings after which two zeros count as one place.
const DEPTH: usize = 40;

impl Bernstein {
    /// Prepares for polynomials of a degree of at least 1.
    pub(crate) fn new(degree: usize) -> Self {
        let n = degree + 1;
        let mut rows: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let s = i as f64 / degree as f64;
                let basis = (0..n).map(|j| {
                    let powers = s.powi(j as i32) * (1.0 - s).powi((degree - j) as i32);
                    binomial(degree, j) * powers
                });
                basis.chain((0..n).map(|j| f64::from(u8::from(i == j)))).collect()
            })
            .collect();
        for pivot in 0..n {
            // The matrix is totally positive: elimination needs no exchange of rows.
            let scale = 1.0 / rows[pivot][pivot];
            rows[pivot].iter_mut().for_each(|x| *x *= scale);
            let row = rows[pivot].clone();
            for other in rows.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
                let factor = other.1[pivot];
                other.1.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
            }
        }
        Self { degree, inverse: rows.iter().flat_map(|row| row[n..].to_vec()).collect() }
    }

    pub(crate) fn degree(&self) -> usize {
        self.degree
    }

    /// The polynomial with these values at the points.
    pub(crate) fn through(&self, values: &[f64]) -> Polynomial {
        let rows = self.inverse.chunks_exact(self.degree + 1);
        let mut b: Vec<f64> =
            rows.map(|row| row.iter().zip(values).map(|(w, v)| w * v).sum()).collect();
        // The ends are values.
        (b[0], b[self.degree]) = (values[0], values[self.degree]);
        let size = values.iter().fold(0f64, |size, v| size.max(v.abs()));
        Polynomial { b, rounding: ROUNDING * size }
    }
}

/// A polynomial on the unit interval, over Bernstein's basis.
#[derive(Clone, Debug)]
pub(crate) struct Polynomial {
    b: Vec<f64>,
    /// What rounding may make of a coefficient that is zero.
    rounding: f64,
}

impl Polynomial {
    /// Adds points to `out` between which it changes its sign at most once; with `from_zero` its zero at the start does
    /// not count.
    pub(crate) fn isolate(&self, from_zero: bool, out: &mut Vec<f64>) {
        let first = if from_zero { 0.0 } else { self.b[0] };
        let far = |b: &f64| b.abs() > self.rounding;
        let signs = || std::iter::once(&first).chain(&self.b[1..]).filter(|b| far(b));
        if signs().all(|b| *b > 0.0) || signs().all(|b| *b < 0.0) {
            return;
        }
        let mut b = self.b.clone();
        b[0] = first;
        halve(&b, (0.0, 1.0), (self.rounding, DEPTH), out);
    }

    /// Its value.
    pub(crate) fn at(&self, s: f64) -> f64 {
        let (n, r) = (self.b.len() - 1, 1.0 - s);
        let (mut power, mut choose, mut sum) = (1.0, 1.0, self.b[0] * r);
        for (i, b) in self.b.iter().enumerate().take(n).skip(1) {
            power *= s;
            choose *= (n - i + 1) as f64 / i as f64;
            sum = (sum + power * choose * b) * r;
        }
        sum + power * s * self.b[n]
    }

    /// The sign of its slope at the start, if that is more than rounding.
    pub(crate) fn leaves(&self) -> Option<f64> {
        let rise = self.b.get(1)? - self.b[0];
        (rise.abs() > 2.0 * self.rounding).then(|| rise.signum())
    }
}

fn halve(b: &[f64], (low, high): (f64, f64), (rounding, depth): (f64, usize), out: &mut Vec<f64>) {
    let mut changes = 0;
    let mut last = 0.0;
    for &b in b.iter().filter(|b| b.abs() > rounding) {
        changes += usize::from(last * b.signum() < 0.0);
        last = b.signum();
    }
    match changes {
        0 => {}
        1 => out.extend([low, high]),
        _ if depth == 0 => out.extend([low, high]),
        _ => {
            // Not where it is zero: the zero would belong to neither half.
            let parts = [0.5, 0.4375, 0.5625].map(|r| (r, split(b, r)));
            let far = |(_, (left, _)): &&(f64, (Vec<f64>, Vec<f64>))| {
                left.last().is_some_and(|b| b.abs() > rounding)
            };
            let Some((r, (left, right))) = parts.iter().find(far).or(parts.first()) else { return };
            let middle = low + r * (high - low);
            halve(left, (low, middle), (rounding, depth - 1), out);
            halve(right, (middle, high), (rounding, depth - 1), out);
        }
    }
}

/// The coefficients on both sides of a fraction, by de Casteljau's scheme.
fn split(b: &[f64], r: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut left, mut right, mut b) = (vec![b[0]], vec![b[b.len() - 1]], b.to_vec());
    while b.len() > 1 {
        b = b.windows(2).map(|pair| (1.0 - r) * pair[0] + r * pair[1]).collect();
        left.push(b[0]);
        right.push(b[b.len() - 1]);
    }
    right.reverse();
    (left, right)
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::Bernstein;

    fn points(degree: usize, from_zero: bool, p: impl Fn(f64) -> f64) -> Vec<f64> {
        let values: Vec<f64> = (0..=degree).map(|j| p(j as f64 / degree as f64)).collect();
        let mut out = Vec::new();
        let polynomial = Bernstein::new(degree).through(&values);
        for s in [0.0, 0.1, 0.37, 0.9, 1.0] {
            assert!((polynomial.at(s) - p(s)).abs() < 1e-13, "at {s}");
        }
        polynomial.isolate(from_zero, &mut out);
        out
    }

    #[test]
    fn zeros_close_together_are_told_apart() {
        for gap in [0.1, 1e-3, 1e-5] {
            let p = |s: f64| (s - 0.4) * (s - 0.4 - gap) * (s + 0.3).powi(3);
            let between = points(5, false, p);
            assert!(between.iter().any(|&s| s > 0.4 && s < 0.4 + gap), "{gap}: {between:?}");
        }
    }

    #[test]
    fn polynomial_without_zeros_needs_no_points() {
        assert!(points(4, false, |s| 1.0 + s - s.powi(3)).is_empty());
        assert!(points(4, true, |s| s * (1.0 + s)).is_empty());
        assert!(!points(4, true, |s| s * (0.5 - s)).is_empty());
    }
}
