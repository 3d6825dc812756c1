//! Linear systems of which products alone are known.

use crate::Result;

/// Products after which the iteration starts anew from the solution so far, to bound what it keeps.
const RESTART: usize = 40;

/// Starts anew after which a system is given up.
const STARTS: usize = 25;

/// The systems of a state, one for each block of it, none of which sees another.
pub(super) struct Solution {
    pub(super) x: Vec<f64>,
    /// Whether the residual of each is small enough.
    pub(super) solved: Vec<bool>,
}

/// One block's least-squares problem.
#[derive(Clone, Default)]
struct Projected {
    /// Columns of the Hessenberg matrix after rotations, upper triangular.
    columns: Vec<Vec<f64>>,
    rotations: Vec<(f64, f64)>,
    /// The right side after rotations; its last entry is the residual.
    right: Vec<f64>,
    is_active: bool,
}

impl Projected {
    /// Takes in the next column; returns the norm of the residual.
    fn push(&mut self, mut column: Vec<f64>) -> f64 {
        let last = column.len() - 2;
        for (i, (c, s)) in self.rotations.iter().enumerate() {
            let (x, y) = (column[i], column[i + 1]);
            (column[i], column[i + 1]) = (c * x + s * y, c * y - s * x);
        }
        let size = column[last].hypot(column[last + 1]);
        let (c, s) = match size > 0.0 {
            true => (column[last] / size, column[last + 1] / size),
            false => (1.0, 0.0),
        };
        (column[last], column[last + 1]) = (size, 0.0);
        let right = self.right[last];
        self.right[last] = c * right;
        self.right.push(-s * right);
        self.rotations.push((c, s));
        self.columns.push(column);
        (s * right).abs()
    }

    /// The weights of the basis.
    fn weights(&self) -> Vec<f64> {
        let mut y = vec![0.0; self.columns.len()];
        for i in (0..y.len()).rev() {
            let sum: f64 = (i + 1..y.len()).map(|j| self.columns[j][i] * y[j]).sum();
            let diagonal = self.columns[i][i];
            y[i] = if diagonal == 0.0 { 0.0 } else { (self.right[i] - sum) / diagonal };
        }
        y
    }
}

/// Solves `A x = b` for every block of `b`, until its residual is `relative` times its right side.
///
/// # Source
/// GMRES of Saad and Schultz, 1986, with modified Gram-Schmidt and restarts. All blocks go through each product together;
/// one that is solved rests, so what a block gets does not depend on others.
pub(super) fn gmres(
    b: &[f64],
    blocks: usize,
    relative: f64,
    mut apply: impl FnMut(&[f64], &mut [f64]) -> Result<()>,
) -> Result<Solution> {
    let size = b.len() / blocks;
    let goals: Vec<f64> = b.chunks_exact(size).map(|b| relative * norm(b)).collect();
    let mut found = Solution { x: vec![0.0; b.len()], solved: vec![false; blocks] };
    let (mut left, mut before) = (b.to_vec(), vec![f64::INFINITY; blocks]);
    let mut given_up = vec![false; blocks];
    for _ in 0..STARTS {
        let mut problems = vec![Projected::default(); blocks];
        let mut first = left.clone();
        for (block, (own, first)) in
            problems.iter_mut().zip(first.chunks_exact_mut(size)).enumerate()
        {
            let residual = norm(first);
            found.solved[block] = residual <= goals[block];
            // One that hardly falls any more never will.
            given_up[block] |= residual.is_nan() || residual > 0.9 * before[block];
            before[block] = residual;
            own.is_active = !found.solved[block] && !given_up[block];
            own.right.push(residual);
            let scale = if own.is_active { 1.0 / residual } else { 0.0 };
            first.iter_mut().for_each(|x| *x *= scale);
        }
        if problems.iter().all(|own| !own.is_active) {
            break;
        }
        let basis = project(first, &mut problems, &goals, &mut apply)?;
        for (block, own) in problems.iter().enumerate() {
            let x = &mut found.x[block * size..][..size];
            for (weight, v) in own.weights().into_iter().zip(&basis) {
                let v = &v[block * size..][..size];
                x.iter_mut().zip(v).for_each(|(x, v)| *x += weight * v);
            }
        }
        apply(&found.x, &mut left)?;
        left.iter_mut().zip(b).for_each(|(left, b)| *left = b - *left);
    }
    Ok(found)
}

/// Builds an orthonormal basis of each active block's Krylov space, up to where the residual reaches its goal.
fn project(
    first: Vec<f64>,
    problems: &mut [Projected],
    goals: &[f64],
    apply: &mut impl FnMut(&[f64], &mut [f64]) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let size = first.len() / problems.len();
    let mut basis = vec![first];
    for last in 0..RESTART {
        let mut next = vec![0.0; basis[last].len()];
        apply(&basis[last], &mut next)?;
        for (block, own) in problems.iter_mut().enumerate() {
            let range = block * size..(block + 1) * size;
            let w = &mut next[range.clone()];
            if !own.is_active {
                w.fill(0.0);
                continue;
            }
            let mut column = Vec::with_capacity(last + 2);
            for v in &basis {
                let v = &v[range.clone()];
                let h: f64 = w.iter().zip(v).map(|(w, v)| w * v).sum();
                w.iter_mut().zip(v).for_each(|(w, v)| *w -= h * v);
                column.push(h);
            }
            let rest = norm(w);
            column.push(rest);
            let residual = own.push(column);
            own.is_active = residual > goals[block] && rest > 0.0;
            let scale = if own.is_active { 1.0 / rest } else { 0.0 };
            w.iter_mut().for_each(|w| *w *= scale);
        }
        if problems.iter().all(|own| !own.is_active) {
            break;
        }
        basis.push(next);
    }
    Ok(basis)
}

/// Raises the norms of matrices, one for each block, to what the product of `x` shows of them.
pub(super) fn raise_norms(norms: &mut [f64], x: &[f64], product: &[f64]) {
    let size = x.len() / norms.len();
    let blocks = x.chunks_exact(size).zip(product.chunks_exact(size));
    for (own, (x, product)) in norms.iter_mut().zip(blocks) {
        let length = norm(x);
        if length > 0.0 {
            *own = own.max(norm(product) / length);
        }
    }
}

pub(super) fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::gmres;

    #[test]
    fn systems_are_solved_and_none_sees_another() {
        let size = 30;
        // Two blocks: one with a spread of eigenvalues, one that needs a single product.
        let entry = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.0 + i as f64,
            1 => -0.7,
            _ => 0.0,
        };
        let times = |x: &[f64]| -> Vec<f64> {
            (0..size).map(|i| (0..size).map(|j| entry(i, j) * x[j]).sum()).collect()
        };
        let x: Vec<f64> = (0..size).map(|i| (0.3 * i as f64).cos()).collect();
        let alone = gmres(&times(&x), 1, 1e-13, |x, out| {
            out.copy_from_slice(&times(x));
            Ok(())
        });
        let both = gmres(&[times(&x), vec![3.0; size]].concat(), 2, 1e-13, |x, out| {
            out[..size].copy_from_slice(&times(&x[..size]));
            out[size..].iter_mut().zip(&x[size..]).for_each(|(out, x)| *out = 1.5 * x);
            Ok(())
        });
        let (alone, both) = (alone.unwrap(), both.unwrap());
        assert_eq!(both.solved, [true, true]);
        assert_eq!(alone.x, both.x[..size]);
        for (found, x) in both.x.iter().zip(x.iter().chain(&vec![2.0; size])) {
            assert!((found - x).abs() < 1e-11, "{found} for {x}");
        }
        let singular = gmres(&[1.0, 1.0], 1, 1e-12, |x, out| {
            out.copy_from_slice(&[x[0], 0.0]);
            Ok(())
        });
        assert_eq!(singular.unwrap().solved, [false]);
    }
}
