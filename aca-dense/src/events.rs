//! Events: what happens where the solution itself decides.

use std::fmt;
use std::sync::Arc;

use aca_core::{Time, VectorField};
use candle_core::{Result as CandleResult, Tensor, Var};

mod assemble;
mod check;
mod crossing;
mod cursor;
mod finder;
mod function;
mod inside;
mod isolate;
mod jump;
mod lane;
mod law;
mod look;
mod outcome;
mod outputs;
mod pieces;
mod root;
mod rounds;
mod sample;
mod watch;

pub use crossing::{Crossing, Motion, crossings_of, moments};
pub use finder::EventFinder;
pub use function::EventFunction;
pub use law::EventLaw;
pub use outcome::{EventSolution, solve_events};
pub use pieces::{Piece, Pieces, jumping};

/// A change of the state: `y+ = jump(t, y-)`.
type Jump = dyn Fn(&Time, &Tensor) -> CandleResult<Tensor> + Send + Sync;

/// What happens where a function of time and state crosses zero.
///
/// An event is found on the interpolant of every accepted step. A solve that begins where the function is zero leaves
/// without an event, and so does one that begins there again after a jump: which side it leaves to, the derivative along
/// the solution says.
///
/// # Example
/// ```
/// use aca_dense::Event;
/// use candle_core::Tensor;
///
/// // A ball of height `y[0]` and speed `y[1]` bounces where it falls to the ground; the tenth time is the last.
/// let bounce = Event::component(0, 0.0).falling().until(10).jump(|_t, y| {
///     Tensor::stack(&[y.get(0)?.zeros_like()?, y.get(1)?.affine(-0.8, 0.0)?], 0)
/// });
/// assert_eq!(bounce.until, Some(10));
/// ```
#[derive(Clone)]
pub struct Event {
    /// What is looked at.
    pub function: EventFunction,
    /// Which crossings count, as the solve goes: backward in time a ball that flies up falls.
    pub direction: Direction,
    /// What happens.
    pub action: Action,
    /// The occurrence that ends the solve, once its action is done; counted from 1.
    pub until: Option<usize>,
}

/// Which crossings count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From negative to positive.
    Rising,
    /// From positive to negative.
    Falling,
    /// Both.
    #[default]
    Both,
}

impl Direction {
    /// Whether a crossing counts that rises, or does not.
    pub(crate) fn allows(self, rising: bool) -> bool {
        match self {
            Self::Rising => rising,
            Self::Falling => !rising,
            Self::Both => true,
        }
    }
}

/// What an event does.
#[derive(Clone, Default)]
pub enum Action {
    /// Ends the solve there.
    #[default]
    Stop,
    /// Notes time and state; the steps stay what they are.
    Record,
    /// Changes the state, from which the solve starts anew.
    Jump(Arc<Jump>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "Stop",
            Self::Record => "Record",
            Self::Jump(_) => "Jump",
        })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, direction, action, until } = self;
        write!(f, "Event {{ {function:?}, {direction:?}, {action:?}, until: {until:?} }}")
    }
}

impl Event {
    /// Returns the event at which `g(t, y)` crosses zero; it stops the solve.
    ///
    /// Candle differentiates `g`, with respect to whatever variables it reads as well. Read the time by
    /// [`Time::tensor`]: what is made of [`Time::value`] has no derivative.
    ///
    /// # Shapes
    /// `y`: `[..state]`, result: one number; where samples step on their own `[rows, ..state]` and `[rows]`, and
    /// [`Time::samples`] says which samples the rows hold.
    pub fn new(g: impl Fn(&Time, &Tensor) -> CandleResult<Tensor> + Send + Sync + 'static) -> Self {
        Self::of(EventFunction::Closure(Arc::new(g)))
    }

    /// Returns the event at which a closed form on slices crosses zero; `theta` are its parameters, all numbers of the
    /// variable.
    pub fn law(law: impl EventLaw + 'static, theta: Var) -> Self {
        Self::of(EventFunction::Law(Arc::new(law), theta))
    }

    /// Returns the event at which number `index` of the state, counted through all its dimensions, crosses `threshold`.
    /// No crossing of it escapes: the interpolant's own polynomial says where to look.
    pub fn component(index: usize, threshold: f64) -> Self {
        Self::of(EventFunction::Component { index, threshold })
    }

    /// Returns the event that the solution has come to rest: the root mean square of `f(t, y)` falls below `eps`. A
    /// solve that begins at rest does not meet it.
    pub fn steady(field: Arc<dyn VectorField>, eps: f64) -> Self {
        Self::of(EventFunction::Steady { field, eps }).falling()
    }

    /// Returns what happens at given times, those inside the span or at its end: doses of a drug, say. Steps end there
    /// exactly.
    pub fn at_times(ts: Vec<f64>) -> Self {
        Self::of(EventFunction::Times(ts))
    }

    /// Returns what happens at the end of every accepted step: a projection onto an invariant, say.
    ///
    /// # Cost
    /// A jump starts the solve anew, with a search for the size of its first step, unless the solver names that.
    pub fn every_step() -> Self {
        Self::of(EventFunction::Steps)
    }

    fn of(function: EventFunction) -> Self {
        let (direction, action) = Default::default();
        Self { function, direction, action, until: None }
    }

    /// Counts crossings from negative to positive alone.
    pub fn rising(self) -> Self {
        Self { direction: Direction::Rising, ..self }
    }

    /// Counts crossings from positive to negative alone.
    pub fn falling(self) -> Self {
        Self { direction: Direction::Falling, ..self }
    }

    /// Notes time and state, and lets the solve go on.
    pub fn record(self) -> Self {
        Self { action: Action::Record, ..self }
    }

    /// Changes the state to `jump(t, y)`, and lets the solve go on from there. Candle differentiates `jump`, with
    /// respect to whatever variables it reads as well.
    ///
    /// # Shapes
    /// As for [`Event::new`]; the result has the shape of `y`.
    pub fn jump(
        self,
        jump: impl Fn(&Time, &Tensor) -> CandleResult<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { action: Action::Jump(Arc::new(jump)), ..self }
    }

    /// Ends the solve at the occurrence number `count`, once the action is done; 0 is refused by the solve.
    pub fn until(self, count: usize) -> Self {
        Self { until: Some(count), ..self }
    }

    /// Whether occurrence number `count` ends a piece of the solve.
    pub(crate) fn acts(&self, count: usize) -> bool {
        !matches!(self.action, Action::Record) || self.ends(count)
    }

    /// Whether occurrence number `count` ends the solve.
    pub(crate) fn ends(&self, count: usize) -> bool {
        matches!(self.action, Action::Stop) || self.until.is_some_and(|until| count >= until)
    }
}

/// The events of a solve.
#[derive(Clone, Debug)]
pub struct Events {
    /// The events; where two happen at one time, the earlier in the list comes first.
    pub list: Vec<Event>,
    /// Events of a sample beyond which the solve is given up.
    pub limit: usize,
    /// Points strictly inside each step at which functions are looked at whose crossings no polynomial bounds. Two
    /// crossings between neighbouring points are not seen.
    pub points: usize,
}

impl Events {
    /// Events of a sample beyond which a solve is given up, unless told otherwise.
    pub const LIMIT: usize = 10_000;
    /// Points inside a step at which functions are looked at, unless told otherwise.
    pub const POINTS: usize = 4;

    /// Joins events with the usual settings.
    pub fn new(list: impl Into<Vec<Event>>) -> Self {
        Self { list: list.into(), limit: Self::LIMIT, points: Self::POINTS }
    }
}

impl From<Event> for Events {
    fn from(event: Event) -> Self {
        Self::new([event])
    }
}
