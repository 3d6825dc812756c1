//! Traced solves that end before their graph is too deep.

use crate::large_stack::{check_graph, with_large_stack};
use crate::{Result, Step, StepSink};

/// The sink of a traced solve that refuses the step whose graph might overflow the stack where it is dropped.
pub(crate) struct TraceGuard<'a> {
    sink: &'a mut dyn StepSink,
    nodes: Option<Nodes>,
}

/// Nodes of a graph.
#[derive(Clone, Copy)]
struct Nodes {
    /// Those that the initial state hangs on.
    before: usize,
    /// Those that one step adds, as the first one did.
    per_step: usize,
}

impl<'a> TraceGuard<'a> {
    pub(crate) fn new(sink: &'a mut dyn StepSink) -> Self {
        Self { sink, nodes: None }
    }
}

impl StepSink for TraceGuard<'_> {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if step.y1.track_op() && !self.sink.drops_newest_first() {
            let nodes = self.nodes.map_or_else(|| Nodes::of(step), Ok)?;
            self.nodes = Some(nodes);
            check_graph(step.index + 1, nodes.per_step, nodes.before)?;
        }
        self.sink.accept(step)
    }

    fn looks_inside(&self, sample: usize, t1: f64) -> bool {
        self.sink.looks_inside(sample, t1)
    }
}

impl Nodes {
    /// Counts them by candle's walk, which recurses.
    fn of(step: &Step<'_>) -> Result<Self> {
        let (y0, y1) = (step.y0, step.y1);
        with_large_stack(|| {
            let before = y0.sorted_nodes().len();
            Self { before, per_step: y1.sorted_nodes().len().saturating_sub(before) }
        })
    }
}
