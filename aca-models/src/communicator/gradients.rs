//! Gradients of all ranks together.

use candle_core::{Tensor, Var, backprop::GradStore};

use super::Communicator;
use crate::Result;

/// Returns the sums of the ranks' gradients with respect to `variables`.
///
/// For the gradient of the mean loss over the images of all ranks, each rank multiplies its mean loss
/// by its share of the images before `backward`. A rank without images gives an empty store. Variables without a
/// gradient get one of zeros, so that all ranks send the same: weight decay then moves them.
///
/// # Errors
/// Those of [`Communicator::all_reduce`].
///
/// # Cost
/// Every number of the gradients is sent and received about twice, whatever the number of ranks.
///
/// # Example
/// ```
/// use aca_models::communicator::{Alone, sum_gradients};
/// use candle_core::{Device, Var};
///
/// # fn main() -> aca_models::Result<()> {
/// let x = Var::new(&[3.0f64], &Device::Cpu)?;
/// let own = x.sqr()?.backward()?;
/// let sums = sum_gradients(&Alone, &[x.clone()], &own)?;
/// assert_eq!(sums.get(&x).map(|x| x.to_vec1::<f64>()).transpose()?, Some(vec![6.0]));
/// # Ok(())
/// # }
/// ```
pub fn sum_gradients(
    communicator: &dyn Communicator,
    variables: &[Var],
    gradients: &GradStore,
) -> Result<GradStore> {
    let mut tensors = listed(variables, gradients)?;
    communicator.all_reduce(&mut tensors)?;
    Ok(stored(variables, tensors))
}

/// The gradients in the order of the variables, zeros where there are none.
pub(crate) fn listed(variables: &[Var], gradients: &GradStore) -> Result<Vec<Tensor>> {
    let of = |var: &Var| match gradients.get(var) {
        Some(gradient) => Ok(gradient.detach()),
        None => Ok(var.zeros_like()?.detach()),
    };
    variables.iter().map(of).collect()
}

/// Gradients in the order of the variables as candle's store.
pub(crate) fn stored(variables: &[Var], tensors: Vec<Tensor>) -> GradStore {
    let mut store = GradStore::default();
    for (var, tensor) in variables.iter().zip(tensors) {
        store.insert(var, tensor);
    }
    store
}
