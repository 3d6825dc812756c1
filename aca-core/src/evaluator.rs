//! Checked and counted evaluations of a field.

use std::cell::{Cell, RefCell};

use candle_core::{DType, Tensor, Var};

use crate::coupling::first_coupled_row;
use crate::kernels::has_kernels;
use crate::{Error, Part, Pullback, Result, Structure, Time, VectorField};

/// How linear systems of a part of the field are set up, of so many numbers each.
type KnownStructure = ((Option<Part>, usize), Structure);

/// A field beside the state that it must fit: checks every result against it and counts calls.
pub struct Evaluator<'a> {
    field: &'a dyn VectorField,
    statistics: Vec<Var>,
    dtype: DType,
    trace: bool,
    nfe: Cell<usize>,
    /// Whether the field asked for the time as a tensor of single precision.
    reads_single_times: Cell<bool>,
    /// Whether rows of a state are systems of their own, once that was asked.
    rows_are_apart: Cell<Option<bool>>,
    /// How linear systems of so many numbers are set up, once that was asked.
    structure: RefCell<Option<KnownStructure>>,
}

impl<'a> Evaluator<'a> {
    /// Joins `field` to states like `y0`.
    ///
    /// # Errors
    /// [`Error::EmptyState`], [`Error::UnsupportedDType`] or [`Error::UnsupportedDevice`] when no
    /// solve can start from `y0`; what [`VectorField::fits`] refuses.
    pub fn new(field: &'a dyn VectorField, y0: &Tensor) -> Result<Self> {
        if y0.elem_count() == 0 {
            return Err(Error::EmptyState { shape: y0.dims().to_vec() });
        }
        if !matches!(y0.dtype(), DType::F32 | DType::F64) {
            return Err(Error::UnsupportedDType { dtype: y0.dtype() });
        }
        if !has_kernels(y0.device()) {
            return Err(Error::UnsupportedDevice {
                device: format!("{:?}", y0.device().location()),
            });
        }
        field.fits(y0)?;
        let statistics = field.running_statistics();
        Ok(Self {
            field,
            statistics,
            dtype: y0.dtype(),
            trace: false,
            nfe: Cell::new(0),
            reads_single_times: Cell::new(false),
            rows_are_apart: Cell::new(None),
            structure: RefCell::new(None),
        })
    }

    /// Returns an evaluator whose results stay in candle's graph, if `trace` says so.
    pub fn tracing(self, trace: bool) -> Self {
        Self { trace, ..self }
    }

    /// Whether results stay in candle's graph.
    pub(crate) fn traces(&self) -> bool {
        self.trace
    }

    /// Returns `f(t, y)`, detached unless the evaluator traces.
    ///
    /// # Errors
    /// [`Error::FieldShape`] or [`Error::FieldDType`] when the result does not fit the state.
    pub fn eval(&self, t: f64, y: &Tensor) -> Result<Tensor> {
        self.eval_at(&Time::new(t), y)
    }

    /// As [`Evaluator::eval`], at a time that may differ among the rows of `y`.
    ///
    /// # Errors
    /// As [`Evaluator::eval`]; [`Error::TimesDiffer`] when the field wants one time for all rows.
    pub fn eval_at(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.eval_part(None, t, y)
    }

    /// The same of a part of the field.
    pub(crate) fn eval_part(&self, part: Option<Part>, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.nfe.set(self.nfe.get() + 1);
        let field = self.part(part)?;
        if self.trace {
            let f = field.trace(t, y).map_err(|error| Error::in_field(error, y))?;
            self.check(t, y, &f)?;
            return Ok(f);
        }
        let f = field.eval(t, y).map_err(|error| Error::in_field(error, y))?;
        self.check(t, y, &f)?;
        own(&f)
    }

    /// A part of the field, or all of it.
    ///
    /// # Errors
    /// [`Error::FieldNotSplit`].
    pub(crate) fn part(&self, part: Option<Part>) -> Result<&'a dyn VectorField> {
        match part {
            None => Ok(self.field),
            Some(part) => Ok(self.field.parts().ok_or(Error::FieldNotSplit)?.get(part)),
        }
    }

    /// Returns `f(t, y)`, detached, and its pullback.
    ///
    /// # Errors
    /// As [`Evaluator::eval`].
    pub fn linearize(&self, t: f64, y: &Tensor) -> Result<(Tensor, Pullback<'a>)> {
        self.linearize_at(&Time::new(t), y)
    }

    /// As [`Evaluator::linearize`], at a time that may differ among the rows of `y`.
    ///
    /// # Errors
    /// As [`Evaluator::eval_at`].
    pub fn linearize_at(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'a>)> {
        self.linearize_part(None, t, y)
    }

    /// The same of a part of the field.
    pub(crate) fn linearize_part(
        &self,
        part: Option<Part>,
        t: &Time,
        y: &Tensor,
    ) -> Result<(Tensor, Pullback<'a>)> {
        self.nfe.set(self.nfe.get() + 1);
        let linear = self.part(part)?.linearize(t, y);
        let (f, pullback) = linear.map_err(|error| Error::in_field(error, y))?;
        self.check(t, y, &f)?;
        Ok((own(&f)?, pullback))
    }

    /// Whether the field can be evaluated on some rows of a batch alone.
    pub fn supports_row_subset(&self) -> bool {
        self.field.supports_row_subset()
    }

    /// Whether the rows of a whole state are independent systems; probed once, at `(t, y)`.
    ///
    /// # Errors
    /// Whatever the field returns.
    pub fn are_rows_apart(
        &self,
        t: impl FnOnce() -> Result<Time>,
        y: impl FnOnce() -> Result<Tensor>,
    ) -> Result<bool> {
        if let Some(known) = self.rows_are_apart.get() {
            return Ok(known);
        }
        let apart = self.seem_rows_apart(&t()?, &y()?)?;
        self.rows_are_apart.set(Some(apart));
        Ok(apart)
    }

    /// Whether rows of a whole state seem systems of their own at `(t, y)`.
    pub(crate) fn seem_rows_apart(&self, t: &Time, y: &Tensor) -> Result<bool> {
        let (y, statistics) = (y.detach(), self.snapshot()?);
        let f = self.field.eval(t, &y);
        self.restore(&statistics)?;
        let f = f.map_err(|error| Error::in_field(error, &y))?.detach();
        Ok(y.rank() > 1 && first_coupled_row(self.field, t, &y, &f)?.is_none())
    }

    /// How the linear systems of implicit stages are set up, of `size` numbers each, for a part of the field or all of it.
    ///
    /// # Errors
    /// [`Error::JacobianTooLarge`], [`Error::JacobianSize`], [`Error::FieldNotSplit`].
    pub fn structure(&self, part: Option<Part>, size: usize) -> Result<Structure> {
        if let Some((known, structure)) = &*self.structure.borrow()
            && *known == (part, size)
        {
            return Ok(structure.clone());
        }
        let structure = self.part(part)?.jacobian().structure(size)?;
        self.structure.replace(Some(((part, size), structure.clone())));
        Ok(structure)
    }

    /// What was found of the rows, if it was asked.
    pub fn known_rows(&self) -> Option<bool> {
        self.rows_are_apart.get()
    }

    /// Takes over what another evaluator found of the rows.
    pub fn knowing_rows(self, apart: Option<bool>) -> Self {
        self.rows_are_apart.set(apart);
        self
    }

    /// The field itself.
    pub(crate) fn field(&self) -> &'a dyn VectorField {
        self.field
    }

    /// Relative rounding of the state's numbers.
    pub fn epsilon(&self) -> f64 {
        if self.dtype == DType::F32 { f32::EPSILON.into() } else { f64::EPSILON }
    }

    /// Whether the field asked for the time as a tensor of single precision.
    pub(crate) fn reads_single_times(&self) -> bool {
        self.reads_single_times.get()
    }

    /// Number of calls of the field so far.
    pub fn nfe(&self) -> usize {
        self.nfe.get()
    }

    /// Counts evaluations that went past this evaluator.
    pub fn count(&self, evaluations: usize) {
        self.nfe.set(self.nfe.get() + evaluations);
    }

    /// Whether the field has running statistics.
    pub(crate) fn has_statistics(&self) -> bool {
        !self.statistics.is_empty()
    }

    /// Copies the field's running statistics.
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.statistics.iter().map(|var| Ok(var.copy()?)).collect()
    }

    /// Sets the field's running statistics back to a [`snapshot`](Self::snapshot).
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        for (var, value) in self.statistics.iter().zip(snapshot) {
            var.set(value)?;
        }
        Ok(())
    }

    fn check(&self, t: &Time, y: &Tensor, f: &Tensor) -> Result<()> {
        if t.was_misread() {
            return Err(Error::TimesDiffer);
        }
        if self.dtype == DType::F32 && t.leaf().is_some() {
            self.reads_single_times.set(true);
        }
        if f.shape() != y.shape() {
            let (got, expected) = (f.dims().to_vec(), y.dims().to_vec());
            return Err(Error::FieldShape { got, expected });
        }
        if f.dtype() != self.dtype {
            return Err(Error::FieldDType { got: f.dtype(), expected: self.dtype });
        }
        Ok(())
    }
}

/// A slope outside candle's graph, copied if it is a variable itself: that may be set while a solution still
/// holds its stages.
fn own(f: &Tensor) -> Result<Tensor> {
    if f.is_variable() { Ok(f.detach().force_contiguous()?) } else { Ok(f.detach()) }
}
