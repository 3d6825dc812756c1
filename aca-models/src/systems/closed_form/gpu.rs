//! Closed forms on a GPU.

use aca_core::{Cotangents, Pullback};
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, bail};

use super::{ClosedForm, Each, GpuKernels, Places, System};
use crate::layers::kernels::cuda;

impl<S: System> ClosedForm<S> {
    /// The kernels of the system, if `y` lives where they run.
    pub(super) fn kernels(&self, y: &Tensor) -> Option<GpuKernels> {
        let known = matches!(y.dtype(), DType::F32 | DType::F64);
        self.system.kernels().filter(|_| known && y.device().is_cuda())
    }

    pub(super) fn slopes_on_gpu(
        &self,
        kernels: GpuKernels,
        places: &Places,
        y: &Tensor,
    ) -> Result<Tensor> {
        self.with(kernels, places, y, |system, y| system.slopes(y))
    }

    pub(super) fn linearized_on_gpu(
        &self,
        kernels: GpuKernels,
        places: Places,
        y: &Tensor,
    ) -> Result<(Tensor, Pullback<'_>)> {
        let y = y.detach();
        let f = self.slopes_on_gpu(kernels, &places, &y)?;
        let pullback = move |lambda: &Tensor| {
            if lambda.dims() != y.dims() || lambda.dtype() != y.dtype() {
                let (got, expected) = (lambda.dims(), y.dims());
                bail!("a cotangent of shape {got:?} does not fit a state of shape {expected:?}");
            }
            let lambda = lambda.detach().contiguous()?;
            let [y, theta_bar] =
                self.with(kernels, &places, &y, |system, y| system.pullbacks(y, &lambda))?;
            let mut theta = GradStore::default();
            theta.insert(&self.theta, theta_bar);
            Ok(Cotangents { y, theta, t: None })
        };
        Ok((f, Pullback::new(pullback)))
    }

    /// Runs `work` with the system's kernels and contiguous states.
    fn with<R>(
        &self,
        GpuKernels(name): GpuKernels,
        places: &Places,
        y: &Tensor,
        work: impl FnOnce(&cuda::System<'_>, &Tensor) -> Result<R>,
    ) -> Result<R> {
        let (theta, y) = (self.theta.as_detached_tensor().contiguous()?, y.contiguous()?);
        let rows = places.listed().map(|rows| Tensor::from_vec(rows, places.states, y.device()));
        let rows = rows.transpose()?;
        let shared = matches!(places.each, Each::Shared);
        let sizes = [S::DIM, S::PARAMS];
        work(&cuda::System { name, sizes, theta: &theta, shared, rows: rows.as_ref() }, &y)
    }
}

impl Places {
    /// The row of each state's parameters, where it is not the state's own number.
    fn listed(&self) -> Option<Vec<i64>> {
        matches!(self.each, Each::Sample(..))
            .then(|| (0..self.states).map(|state| self.row(state) as i64).collect())
    }
}
