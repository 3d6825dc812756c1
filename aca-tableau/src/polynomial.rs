//! Polynomials without constant term, between monomials and Hairer's nested form
//! `s (F0 + (1 - s) (F1 + s (F2 + (1 - s) (F3 + ..))))`.

/// The coefficients of s^1, s^2, .. of a nested form.
pub(crate) fn expand(nested: &[f64]) -> Vec<f64> {
    let mut p: Vec<f64> = Vec::with_capacity(nested.len());
    for (level, f) in nested.iter().enumerate().rev() {
        let shifted = std::iter::once(0.0).chain(p.iter().copied());
        let mut next: Vec<f64> = match level % 2 {
            0 => shifted.zip(p.iter().chain(&[0.0])).map(|(up, p)| p - up).collect(),
            _ => shifted.collect(),
        };
        next[0] += f;
        p = next;
    }
    p
}

/// The nested form of a polynomial given by its coefficients of s^1, s^2, ..
pub(crate) fn nest(monomials: &[f64]) -> Vec<f64> {
    let mut q = monomials.to_vec();
    let mut nested = Vec::with_capacity(q.len());
    while !q.is_empty() {
        if nested.len() % 2 == 0 {
            nested.push(divide_by_one_minus_s(&mut q));
        } else {
            nested.push(q.remove(0));
        }
    }
    nested
}

/// Replaces q by (q - q(1)) / (1 - s) and returns q(1): running sums from the highest power down.
fn divide_by_one_minus_s(q: &mut Vec<f64>) -> f64 {
    let mut sum = 0.0;
    for q in q.iter_mut().rev() {
        sum += *q;
        *q = -sum;
    }
    q.remove(0);
    sum
}
