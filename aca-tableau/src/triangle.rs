use crate::TableauError;
use crate::conditions::check_list;

/// Row `i` of a strictly lower triangle that is stored flat, row by row.
#[inline]
pub(crate) fn row(flat: &[f64], i: usize) -> &[f64] {
    &flat[size(i)..][..i]
}

/// The number of entries in the first `rows` rows of a strictly lower triangle.
#[inline]
pub(crate) const fn size(rows: usize) -> usize {
    rows * rows.saturating_sub(1) / 2
}

/// Flattens the list `what`, rows `first..first + rows.len()` of a triangle that has `total` rows in all; returns its diagonal too, empty
/// where that is zero.
///
/// A row may stop before its diagonal, at it, or be `total` long with zeros beyond.
pub(crate) fn flatten(
    what: &str,
    rows: &[Vec<f64>],
    first: usize,
    total: usize,
) -> Result<(Vec<f64>, Vec<f64>), TableauError> {
    let mut flat = Vec::with_capacity(size(total) - size(first));
    let mut diagonal = Vec::with_capacity(rows.len());
    for (i, row) in (first..).zip(rows) {
        if ![i, i + 1, total].contains(&row.len()) {
            return Err(TableauError::Size {
                what: format!("{what}[{}]", i - first),
                expected: i,
                found: row.len(),
            });
        }
        check_list(&format!("{what}[{}]", i - first), row, row.len())?;
        if let Some(j) = (i + 1..row.len()).find(|&j| row[j] != 0.0) {
            return Err(TableauError::AboveDiagonal { row: i, column: j, value: row[j] });
        }
        flat.extend_from_slice(&row[..i]);
        diagonal.push(row.get(i).copied().unwrap_or(0.0));
    }
    if diagonal.iter().all(|a| *a == 0.0) {
        diagonal.clear();
    }
    Ok((flat, diagonal))
}
