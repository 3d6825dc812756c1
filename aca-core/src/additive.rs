//! Additive methods as a scheme: slopes of the stiff part and of the other by turns.

use aca_tableau::{Additive, Interpolant};

use crate::stepper::guesses;
use crate::{Facts, Part, Result, Scheme, StageCotangents, Stages};

/// Weights of stages, for slopes of the stiff part and of the other by turns.
fn by_turns(stiff: &[f64], nonstiff: &[f64]) -> Vec<f64> {
    stiff.iter().zip(nonstiff).flat_map(|(stiff, nonstiff)| [*stiff, *nonstiff]).collect()
}

/// The weights of one stage's two slopes in the states of all slopes.
fn columns(method: &Additive, i: usize) -> [Vec<f64>; 2] {
    let (stages, diagonal) = (method.stages(), method.implicit().diagonal(i));
    let entry = |row: &[f64]| row.get(i).copied().unwrap_or(0.0);
    let mut all = [vec![0.0; 2 * stages], vec![0.0; 2 * stages]];
    // The state of a stage is that of both its slopes, but its own stiff slope is found by solving.
    all[0][2 * i + 1] = diagonal;
    for m in i + 1..stages {
        for slope in [2 * m, 2 * m + 1] {
            all[0][slope] = entry(method.implicit().a_row(m));
            all[1][slope] = entry(method.explicit().a_row(m));
        }
    }
    all
}

/// The interpolant of a pair: through states of stages inside, which fast modes do not disturb as they do slopes at the
/// ends.
fn interpolant(method: &Additive, b: &[f64]) -> Interpolant {
    let (explicit, implicit) = (method.explicit(), method.implicit());
    let state = |i: usize| {
        let mut weights = by_turns(implicit.a_row(i), explicit.a_row(i));
        weights.push(implicit.diagonal(i));
        weights.resize(b.len(), 0.0);
        let slope = (0..b.len()).map(|j| if j / 2 == i { 1.0 } else { 0.0 }).collect();
        (implicit.c()[i], weights, slope)
    };
    // As many as the order asks for, spread over the step; the second stage has stage order 1.
    let wanted = (method.order() - 2).clamp(1, 2);
    let nearest = |place: f64| {
        let far = |i: &usize| (implicit.c()[*i] - place).abs();
        (2..method.stages() - 1).min_by(|i, j| far(i).total_cmp(&far(j))).unwrap_or(0)
    };
    let mut inside: Vec<usize> =
        (1..=wanted).map(|n| nearest(n as f64 / (wanted + 1) as f64)).collect();
    inside.dedup();
    let states: Vec<_> = inside.into_iter().map(state).collect();
    Interpolant::through_states(method.order() - 1, b, &states)
}

impl Scheme for Additive {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn facts(&self) -> Facts {
        let implicit = self.implicit();
        let b = by_turns(implicit.b(), implicit.b());
        let b_error = implicit.b_error().first().map(|weights| by_turns(weights, weights));
        let interpolant = interpolant(self, &b);
        Facts { error_order: implicit.error_order(), b, b_error, interpolant }
    }

    fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
        let (explicit, implicit) = (self.explicit(), self.implicit());
        let c = implicit.c();
        let diagonal: Vec<f64> = (0..self.stages()).map(|i| implicit.diagonal(i)).collect();
        let guesses = guesses(&diagonal, c);
        for i in 0..self.stages() {
            let mut weights = by_turns(implicit.a_row(i), explicit.a_row(i));
            stages.select(Some(Part::Stiff))?;
            match diagonal[i] {
                0.0 => stages.evaluate(c[i], &weights, None)?,
                gamma => {
                    let guess = by_turns(&guesses[i], &vec![0.0; i]);
                    stages.solve(c[i], gamma, &weights, &guess)?;
                }
            }
            weights.push(diagonal[i]);
            stages.select(Some(Part::Nonstiff))?;
            stages.evaluate(c[i], &weights, None)?;
        }
        stages.select(None)
    }

    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()> {
        for i in (0..self.stages()).rev() {
            let [stiff, nonstiff] = columns(self, i);
            cotangents.pull(2 * i + 1, &nonstiff)?;
            match self.implicit().diagonal(i) {
                0.0 => cotangents.pull(2 * i, &stiff)?,
                gamma => cotangents.solve(2 * i, gamma, &stiff)?,
            }
        }
        Ok(())
    }
}
