//! One dense layer over rows of a matrix.

use pulp::{Arch, NullaryFnOnce};

use super::activation;
use super::matmul::{Matrix, Threads, matmul};
use super::vector_math::Elementary;
use crate::layers::Activation;

/// `activation(x W^T + b)` of every row `x`.
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a, T> {
    weight: &'a [T],
    bias: Option<&'a [T]>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

/// Sums of cotangents of a layer's parameters; those that nobody wants are empty.
pub(crate) struct Gradients<T> {
    /// As the weight.
    pub(crate) weight: Vec<T>,
    /// As the bias.
    pub(crate) bias: Vec<T>,
}

/// Which of a layer's parameters have cotangents.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Whether the weight is a variable.
    pub(crate) weight: bool,
    /// Whether there is a bias and it is a variable.
    pub(crate) bias: bool,
}

impl<'a, T: Elementary> Dense<'a, T> {
    /// A layer with `weight` as `[outputs, inputs]`.
    pub(crate) fn new(
        weight: &'a [T],
        bias: Option<&'a [T]>,
        (outputs, inputs): (usize, usize),
        activation: Activation,
    ) -> Self {
        assert!(weight.len() == outputs * inputs && bias.is_none_or(|bias| bias.len() == outputs));
        Self { weight, bias, inputs, outputs, activation }
    }

    /// Numbers in a row of the input.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers in a row of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Multiplications per row.
    pub(crate) fn size(&self) -> usize {
        self.weight.len()
    }

    /// The function after the sum.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    fn matrix(&self) -> Matrix<'a, T> {
        Matrix::row_major(self.weight, self.outputs, self.inputs)
    }

    /// Returns `x W^T + b`.
    ///
    /// The product is added to rows of the bias: that costs nothing, a pass over the sum does.
    pub(crate) fn sums(&self, x: &[T], threads: Threads) -> Vec<T> {
        let rows = x.len() / self.inputs;
        let mut sums = match self.bias {
            Some(_) => Vec::with_capacity(rows * self.outputs),
            None => vec![T::zero(); rows * self.outputs],
        };
        if let Some(bias) = self.bias {
            (0..rows).for_each(|_| sums.extend_from_slice(bias));
        }
        self.add_product(x, &mut sums, threads);
        sums
    }

    /// Writes `x W^T + b` to `sums`.
    pub(crate) fn write_sums(&self, x: &[T], sums: &mut [T], threads: Threads) {
        if let Some(bias) = self.bias {
            sums.chunks_exact_mut(self.outputs).for_each(|row| row.copy_from_slice(bias));
        }
        self.add_product(x, sums, threads);
    }

    /// Adds `x W^T` to rows of the bias, or writes it where there is none.
    fn add_product(&self, x: &[T], sums: &mut [T], threads: Threads) {
        let x = Matrix::row_major(x, x.len() / self.inputs, self.inputs);
        matmul(sums, self.outputs, self.bias.is_some(), x, self.matrix().transposed(), threads);
    }

    /// Writes the cotangent of the rows `x`, for the cotangent `lambda` of the sums.
    pub(crate) fn pull_input(&self, lambda: &[T], x_bar: &mut [T], threads: Threads) {
        let lambda = Matrix::row_major(lambda, lambda.len() / self.outputs, self.outputs);
        matmul(x_bar, self.inputs, false, lambda, self.matrix(), threads);
    }

    /// Returns what [`pull_input`](Self::pull_input) writes.
    pub(crate) fn input_cotangents(&self, lambda: &[T], threads: Threads) -> Vec<T> {
        let mut x_bar = vec![T::zero(); lambda.len() / self.outputs * self.inputs];
        self.pull_input(lambda, &mut x_bar, threads);
        x_bar
    }

    /// Adds the cotangents of the parameters, for the cotangent `lambda` of the sums of rows `x`, or
    /// writes them if these are the `first` rows.
    pub(crate) fn pull_parameters(
        &self,
        (x, lambda): (&[T], &[T]),
        sums: &mut Gradients<T>,
        first: bool,
        threads: Threads,
    ) {
        let rows = x.len() / self.inputs;
        if !sums.bias.is_empty() {
            Arch::new().dispatch(AddRows(&mut sums.bias, lambda));
        }
        if !sums.weight.is_empty() {
            let lambda = Matrix::row_major(lambda, rows, self.outputs).transposed();
            let x = Matrix::row_major(x, rows, self.inputs);
            matmul(&mut sums.weight, self.inputs, !first, lambda, x, threads);
        }
    }

    /// Zeros for what is wanted.
    pub(crate) fn gradients(&self, wanted: Wanted) -> Gradients<T> {
        let zeros = |wanted: bool, size| if wanted { vec![T::zero(); size] } else { Vec::new() };
        Gradients {
            weight: zeros(wanted.weight, self.weight.len()),
            bias: zeros(wanted.bias && self.bias.is_some(), self.outputs),
        }
    }

    /// Multiplies `lambda` by the activation's derivative; `kept` as in [`activation::pull`].
    pub(crate) fn pull_activation(&self, kept: &[T], lambda: &mut [T], threads: Threads) {
        activation::pull(self.activation, kept, lambda, threads);
    }
}

impl<T: Elementary> Gradients<T> {
    /// Adds the sums of other rows.
    pub(crate) fn add(&mut self, other: &Self) {
        Arch::new().dispatch(AddRows(&mut self.weight, &other.weight));
        Arch::new().dispatch(AddRows(&mut self.bias, &other.bias));
    }
}

/// Adds every row of the second matrix to the first one's only row.
struct AddRows<'a, T>(&'a mut [T], &'a [T]);

impl<T: Elementary> NullaryFnOnce for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for row in self.1.chunks_exact(self.0.len().max(1)) {
            for (sum, x) in self.0.iter_mut().zip(row) {
                *sum += *x;
            }
        }
    }
}
