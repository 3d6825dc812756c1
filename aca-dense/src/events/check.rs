//! What events, functions and jumps must fit.

use aca_core::{Error, Result, TimeSpan};
use candle_core::{Tensor, Var};

use super::{EventFunction, Events};
use crate::DenseError;

/// Adds the variables that a graph reads.
pub(crate) fn note(variables: &mut Vec<Var>, x: &Tensor) -> Result<()> {
    for node in x.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
        if variables.iter().all(|known| known.id() != node.id()) {
            variables.push(Var::from_tensor(node)?);
        }
    }
    Ok(())
}

/// Checks what a jump made of states.
pub(crate) fn check_jump(event: usize, after: &Tensor, before: &Tensor) -> Result<()> {
    if after.dims() != before.dims() {
        let (got, expected) = (after.dims().to_vec(), before.dims().to_vec());
        return Err(DenseError::JumpShape { event, got, expected }.into());
    }
    match (after.dtype(), before.dtype()) {
        (got, expected) if got != expected => {
            Err(DenseError::JumpType { event, got, expected }.into())
        }
        _ => Ok(()),
    }
}

/// Checks events against the states that they look at.
pub(crate) fn check(events: &Events, y: &Tensor, whole: bool, spans: &[TimeSpan]) -> Result<()> {
    let size = if whole { y.elem_count() } else { y.elem_count() / spans.len().max(1) };
    for (event, own) in events.list.iter().enumerate() {
        if own.until == Some(0) {
            return Err(DenseError::UntilZero { event }.into());
        }
        match &own.function {
            &EventFunction::Component { index, .. } if index >= size => {
                return Err(DenseError::NoSuchComponent { event, index, size }.into());
            }
            EventFunction::Times(ts) => {
                if let Some((index, &t)) = ts.iter().enumerate().find(|(_, t)| !t.is_finite()) {
                    return Err(Error::TimeNotFinite { index, t });
                }
                for span in spans {
                    if let Some(i) = ts.windows(2).position(|pair| !span.before(pair[0], pair[1])) {
                        let (index, t, previous) = (i + 1, ts[i + 1], ts[i]);
                        let &TimeSpan { t0, t1 } = span;
                        return Err(Error::TimesOutOfOrder { index, t, previous, t0, t1 });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}
