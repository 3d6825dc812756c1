//! Places at which a Jacobian may differ from zero.

use std::collections::VecDeque;

use crate::{Error, Result};

/// Places at which a square matrix may differ from zero, its diagonal among them.
///
/// Rows that share no column are found by one product together (they have one colour), and an order of rows and columns
/// makes the matrix a narrow band.
///
/// # Source
/// Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", 1974; Cuthill and McKee, 1969, reversed.
///
/// # Example
/// ```
/// use aca_core::Sparsity;
///
/// // A ring of five cells, each coupled to its neighbours: 0 and 4 lie far apart in the state, not in the band.
/// let ring = Sparsity::new((0..5).map(|i| vec![(i + 4) % 5, i, (i + 1) % 5]))?;
/// assert_eq!(ring.bandwidths(), (2, 2));
/// # Ok::<(), aca_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparsity {
    /// Where each row's columns start in `columns`.
    starts: Vec<usize>,
    columns: Vec<usize>,
    /// The rows of each colour.
    colours: Vec<Vec<usize>>,
    /// The place of each row and column in the band.
    places: Vec<usize>,
    lower: usize,
    upper: usize,
}

impl Sparsity {
    /// Takes in, for each number of the slope, the numbers of the state that it depends on.
    ///
    /// # Errors
    /// [`Error::SparsityOutside`] for a column beyond the last row.
    pub fn new<R: IntoIterator<Item = usize>>(rows: impl IntoIterator<Item = R>) -> Result<Self> {
        let mut rows: Vec<Vec<usize>> =
            rows.into_iter().map(|row| row.into_iter().collect()).collect();
        let size = rows.len();
        for (row, columns) in rows.iter_mut().enumerate() {
            if let Some(&column) = columns.iter().find(|column| **column >= size) {
                return Err(Error::SparsityOutside { row, column, size });
            }
            columns.push(row);
            columns.sort_unstable();
            columns.dedup();
        }
        let natural: Vec<usize> = (0..size).collect();
        let places = [natural, narrow(&rows)];
        let [natural, narrow] = places.map(|places| (bandwidths(&rows, &places), places));
        let wide = |((lower, upper), _): &((usize, usize), Vec<usize>)| 2 * lower + upper;
        let ((lower, upper), places) =
            if wide(&narrow) < wide(&natural) { narrow } else { natural };
        let colours = colours(&rows);
        Ok(Self::of(&rows, colours, (places, lower, upper)))
    }

    /// A band of so many places below and above the diagonal.
    pub fn banded(size: usize, lower: usize, upper: usize) -> Self {
        let (lower, upper) = (lower.min(size.saturating_sub(1)), upper.min(size.saturating_sub(1)));
        let row = |i: usize| (i.saturating_sub(lower)..(i + upper + 1).min(size)).collect();
        let rows: Vec<Vec<usize>> = (0..size).map(row).collect();
        let width = lower + upper + 1;
        let colours = (0..width.min(size)).map(|first| (first..size).step_by(width).collect());
        Self::of(&rows, colours.collect(), ((0..size).collect(), lower, upper))
    }

    fn of(
        rows: &[Vec<usize>],
        colours: Vec<Vec<usize>>,
        (places, lower, upper): (Vec<usize>, usize, usize),
    ) -> Self {
        let ends = rows.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        Self { starts, columns: rows.concat(), colours, places, lower, upper }
    }

    /// Number of rows and columns.
    pub fn size(&self) -> usize {
        self.places.len()
    }

    /// Places below and above the diagonal in the order of the band.
    pub fn bandwidths(&self) -> (usize, usize) {
        (self.lower, self.upper)
    }

    /// How many products find all entries.
    pub fn products(&self) -> usize {
        self.colours.len()
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> usize {
        self.columns.len()
    }

    /// Where a row's entries lie among all entries, and their columns.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> (std::ops::Range<usize>, &[usize]) {
        let range = self.starts[row]..self.starts[row + 1];
        (range.clone(), &self.columns[range])
    }

    /// The rows of each colour.
    pub(crate) fn colours(&self) -> &[Vec<usize>] {
        &self.colours
    }

    /// The place of each row and column in the band.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }
}

/// The widths of the band below and above the diagonal where rows and columns take these places.
fn bandwidths(rows: &[Vec<usize>], places: &[usize]) -> (usize, usize) {
    let entries = rows.iter().enumerate().flat_map(|(i, row)| row.iter().map(move |&j| (i, j)));
    entries.fold((0, 0), |(lower, upper), (i, j)| {
        let (i, j) = (places[i], places[j]);
        (lower.max(i.saturating_sub(j)), upper.max(j.saturating_sub(i)))
    })
}

/// Gives every row the first colour that no row has which shares a column with it.
fn colours(rows: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); rows.len()];
    for (i, row) in rows.iter().enumerate() {
        row.iter().for_each(|&j| readers[j].push(i));
    }
    let (mut colours, mut own) = (Vec::<Vec<usize>>::new(), vec![usize::MAX; rows.len()]);
    let mut taken = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        taken.clear();
        taken.resize(colours.len() + 1, false);
        for &other in row.iter().flat_map(|&j| &readers[j]) {
            if let Some(taken) = taken.get_mut(own[other]) {
                *taken = true;
            }
        }
        own[i] = taken.iter().position(|taken| !taken).unwrap_or(colours.len());
        if own[i] == colours.len() {
            colours.push(Vec::new());
        }
        colours[own[i]].push(i);
    }
    colours
}

/// Places that keep what is coupled close together: by breadth from a row with few neighbours, reversed.
fn narrow(rows: &[Vec<usize>]) -> Vec<usize> {
    let size = rows.len();
    let mut neighbours = vec![Vec::new(); size];
    for (i, row) in rows.iter().enumerate() {
        for &j in row.iter().filter(|j| **j != i) {
            neighbours[i].push(j);
            neighbours[j].push(i);
        }
    }
    for own in &mut neighbours {
        own.sort_unstable();
        own.dedup();
    }
    let degrees: Vec<usize> = neighbours.iter().map(Vec::len).collect();
    for own in &mut neighbours {
        own.sort_by_key(|j| degrees[*j]);
    }
    let mut starts: Vec<usize> = (0..size).collect();
    starts.sort_by_key(|i| degrees[*i]);
    let (mut places, mut order, mut seen) = (vec![0; size], 0, vec![false; size]);
    for start in starts {
        let mut queue = VecDeque::from([start]);
        while let Some(i) = queue.pop_front() {
            if std::mem::replace(&mut seen[i], true) {
                continue;
            }
            places[i] = size - 1 - order;
            order += 1;
            queue.extend(neighbours[i].iter().filter(|j| !seen[**j]));
        }
    }
    places
}
