//! Vector fields: the right-hand side `f` of `dy/dt = f(t, y)`.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, Var};

use crate::vjp::pull_back;
use crate::{Jacobian, Native, Parts, Time};

/// The right-hand side of `dy/dt = f(t, y)`.
///
/// Any candle model is a field by [`eval`](Self::eval) alone, and so is a closure
/// `Fn(&Time, &Tensor) -> candle_core::Result<Tensor>`. A field with a closed-form derivative
/// overrides [`linearize`](Self::linearize) and then runs without building graphs; it gives the
/// same function in candle's operations as [`trace`](Self::trace).
///
/// # Shapes
/// `y` and the result: the same shape, dtype and device; any number of dimensions.
///
/// # Example
/// ```
/// use aca_core::{Time, VectorField};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> candle_core::Result<()> {
/// let decay = |_t: &Time, y: &Tensor| y.affine(-2.0, 0.0);
/// let y = Tensor::new(&[1.0f64, 3.0], &Device::Cpu)?;
/// let (f, pullback) = decay.linearize(&Time::new(0.0), &y)?;
/// let cotangents = pullback.apply(&Tensor::new(&[1.0f64, 1.0], &Device::Cpu)?)?;
/// assert_eq!(f.to_vec1::<f64>()?, [-2.0, -6.0]);
/// assert_eq!(cotangents.y.to_vec1::<f64>()?, [-2.0, -2.0]);
/// # Ok(())
/// # }
/// ```
pub trait VectorField: Send + Sync {
    /// Returns `f(t, y)`; whether the result is tracked by candle does not matter.
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor>;

    /// Returns `f(t, y)` as a node of candle's graph over `y`, the field's variables and
    /// `t.tensor(..)`.
    ///
    /// The default is [`eval`](Self::eval). Only a field whose `eval` leaves the graph, because
    /// it has a closed-form [`linearize`](Self::linearize), needs its own.
    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.eval(t, y)
    }

    /// Returns `f(t, y)` and the [`Pullback`] of `f` at `(t, y)`.
    ///
    /// The default runs candle's autograd on one [`trace`](Self::trace).
    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        linearize_by_autograd(|t, y| self.trace(t, y), t, y)
    }

    /// Whether the field can be evaluated on some rows of a batch alone, those that [`Time::samples`] names: where each
    /// sample has its own steps, finished samples are then left out.
    ///
    /// The default is no, because a field may hold data for each sample.
    fn supports_row_subset(&self) -> bool {
        false
    }

    /// Returns the field on slices of states like `y`, with its variables as they are now; `None`, the
    /// default, where it works on tensors alone, or where `y` does not fit it.
    ///
    /// A closed form with few numbers per state should offer it: solves and replays then create one or two tensors per
    /// step.
    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        let _ = y;
        None
    }

    /// What implicit methods should know of `df/dy`: a narrow band, say. The default is nothing.
    fn jacobian(&self) -> Jacobian {
        Jacobian::Unknown
    }

    /// The field's two parts, one of them stiff, for [additive](aca_tableau::Additive) methods. The default is none:
    /// [`Split`](crate::Split) joins two fields.
    fn parts(&self) -> Option<Parts<'_>> {
        None
    }

    /// Whether the field is separable: of states whose last dimension holds positions and then as many momenta, the
    /// positions' slope depends on momenta (and time) alone, the momenta's on positions alone. A splitting then needs
    /// one evaluation less per step, because the last kick of a step is the first kick of the next.
    ///
    /// The default is no. The answer is not checked beforehand; a replay notices if it is wrong.
    fn is_separable(&self) -> bool {
        false
    }

    /// Checks before a solve that the field fits the whole batch `y0`. The default accepts every state.
    ///
    /// A field that holds something for each sample needs this check: later evaluations may have [fewer
    /// rows](Self::supports_row_subset).
    fn fits(&self, y0: &Tensor) -> Result<()> {
        let _ = y0;
        Ok(())
    }

    /// Lists the variables that hold running statistics (batch norm's mean and variance).
    ///
    /// The solver lets them advance with the evaluations of accepted steps only: rejected
    /// trials and backward passes leave them bit-identical.
    fn running_statistics(&self) -> Vec<Var> {
        Vec::new()
    }
}

impl<F> VectorField for F
where
    F: Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync,
{
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self(t, y)
    }
}

/// Returns `f(t, y)` and its [`Pullback`] by candle's autograd on one call of `trace`: what fields do
/// by default, and those with a closed form where their kernels cannot run.
pub fn linearize_by_autograd<'a>(
    trace: impl FnOnce(&Time, &Tensor) -> Result<Tensor>,
    t: &Time,
    y: &Tensor,
) -> Result<(Tensor, Pullback<'a>)> {
    let y = Var::from_tensor(&y.detach())?;
    let tracked = t.track();
    let f = trace(&tracked, &y)?;
    if tracked.was_read() {
        t.hide();
    }
    let (value, t) = (f.detach(), tracked);
    let graph = Graph { f: f.clone(), y: y.id(), t: t.leaf().map(|leaf| leaf.id()) };
    let map = Box::new(move |cotangent: &Tensor| autograd(&f, &y, &t, cotangent));
    Ok((value, Pullback { map, graph: Some(graph) }))
}

/// Pulls `cotangent` back through the graph of `f`.
fn autograd(f: &Tensor, y: &Var, t: &Time, cotangent: &Tensor) -> Result<Cotangents> {
    let mut theta = pull_back(f, cotangent)?;
    let y_bar = match theta.remove(y) {
        Some(y_bar) => y_bar.detach(),
        None => y.zeros_like()?,
    };
    let t_bar = t.leaf().and_then(|leaf| theta.remove(leaf)).map(|t_bar| t_bar.detach());
    Ok(Cotangents { y: y_bar, theta, t: t_bar })
}

/// Cotangents of the inputs of `f`.
pub struct Cotangents {
    /// Cotangent of the state, of its shape.
    pub y: Tensor,
    /// Cotangents of the field's variables, by the variable; other entries are ignored.
    pub theta: GradStore,
    /// Cotangent of the time if `f` used it as a tensor: one number, or one for each sample.
    pub t: Option<Tensor>,
}

/// What a [`Pullback`] wraps.
type PullbackFn<'a> = dyn Fn(&Tensor) -> Result<Cotangents> + 'a;

/// The transposed derivative of `f` at one point: maps a cotangent of `f` to [`Cotangents`].
pub struct Pullback<'a> {
    map: Box<PullbackFn<'a>>,
    graph: Option<Graph>,
}

/// The graph of one evaluation of a field that candle differentiates.
#[derive(Clone)]
pub struct Graph {
    f: Tensor,
    y: TensorId,
    t: Option<TensorId>,
}

impl Graph {
    /// The graph of `f` over `y`, without the time.
    pub fn new(f: Tensor, y: &Tensor) -> Self {
        Self { f, y: y.id(), t: None }
    }

    /// The variables that the graph reads, besides state and time.
    pub fn variables(&self) -> Vec<Tensor> {
        let own = |node: &Tensor| node.id() == self.y || Some(node.id()) == self.t;
        let nodes = self.f.sorted_nodes().into_iter();
        nodes.filter(|node| node.is_variable() && !own(node)).cloned().collect()
    }
}

impl<'a> Pullback<'a> {
    /// Wraps the map. It may be applied many times: implicit stages do so.
    pub fn new(map: impl Fn(&Tensor) -> Result<Cotangents> + 'a) -> Self {
        Self { map: Box::new(map), graph: None }
    }

    /// The graph behind it, if candle differentiates.
    pub fn graph(&self) -> Option<Graph> {
        self.graph.clone()
    }

    /// Maps a cotangent of `f` (of the state's shape) to cotangents of the inputs of `f`.
    pub fn apply(&self, cotangent: &Tensor) -> Result<Cotangents> {
        (self.map)(cotangent)
    }
}
