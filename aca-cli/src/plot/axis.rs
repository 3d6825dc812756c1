//! One axis: its range and its ticks.

use super::canvas::span;

/// A range of numbers on a line.
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

/// A number on an axis and how it is written there.
pub struct Tick {
    pub value: f64,
    pub text: String,
}

impl Axis {
    /// The numbers from `low` to `high`, or about `low` where they are the same.
    pub fn new(low: f64, high: f64) -> Self {
        let spread = if high > low { 0.0 } else { low.abs().max(1.0) * 0.5 };
        Self { low: low - spread, high: high + spread, log: false }
    }

    /// All of `numbers` and a margin of that part of their range on both sides.
    pub fn around(numbers: impl IntoIterator<Item = f64>, margin: f64) -> Self {
        let (low, high) = span(numbers.into_iter().filter(|x| x.is_finite()));
        let Self { low, high, log } = Self::new(low, high);
        let margin = margin * (high - low);
        Self { low: low - margin, high: high + margin, log }
    }

    /// The positive ones of `numbers` on a logarithmic scale, and a margin.
    pub fn logarithmic(numbers: impl IntoIterator<Item = f64>, margin: f64) -> Self {
        let positive = numbers.into_iter().filter(|&x| x > 0.0);
        Self { log: true, ..Self::around(positive.map(f64::log10), margin) }
    }

    /// Where `value` lies on the axis: 0 at its start, 1 at its end; NaN for what has no place.
    pub fn fraction(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// The lower and the upper end, powers of ten on a logarithmic axis.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Round numbers on the axis, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        let step = round_step((self.high - self.low) / count as f64);
        match self.log {
            true if self.fits_parts_of_decades(count) => self.parts_of_decades(),
            true => self.decades(step.max(1.0)),
            false => {
                self.multiples(step).map(|value| Tick { value, text: plain(value, step) }).collect()
            }
        }
    }

    /// Whether there is room for three ticks a decade, and their numbers are neither long nor tiny.
    fn fits_parts_of_decades(&self, count: usize) -> bool {
        let decades = self.high - self.low;
        let readable = self.low >= -2.5 && self.high <= 4.0;
        decades <= 2.0 || (readable && 3.0 * decades <= count as f64 + 2.0)
    }

    fn decades(&self, step: f64) -> Vec<Tick> {
        let text = |power: f64| match power {
            0.0 => "1".to_owned(),
            power => format!("10^{}", plain(power, 1.0)),
        };
        let tick = |power: f64| Tick { value: 10f64.powf(power), text: text(power) };
        self.multiples(step.ceil()).map(tick).collect()
    }

    fn parts_of_decades(&self) -> Vec<Tick> {
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let values = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|part| (part, power)));
        let tick = |(part, power): (f64, i32)| {
            let unit = 10f64.powi(power);
            Tick { value: part * unit, text: plain(part * unit, unit) }
        };
        values.map(tick).filter(|tick| (0.0..=1.0).contains(&self.fraction(tick.value))).collect()
    }

    fn multiples(&self, step: f64) -> impl Iterator<Item = f64> + use<> {
        let slack = 1e-9 * step;
        let first = ((self.low - slack) / step).ceil() as i64;
        let last = ((self.high + slack) / step).floor() as i64;
        (first..=last).map(move |i| i as f64 * step)
    }
}

/// The one of 1, 2 and 5 times powers of ten that is nearest to `step`.
fn round_step(step: f64) -> f64 {
    let unit = 10f64.powf(step.log10().floor());
    let part = match step / unit {
        part if part < 1.5 => 1.0,
        part if part < 3.5 => 2.0,
        part if part < 7.5 => 5.0,
        _ => 10.0,
    };
    part * unit
}

/// A multiple of `step` without superfluous digits, with a true minus sign.
fn plain(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let text = match value.abs() {
        large if large >= 1e6 || (decimals > 4 && large > 0.0) => format!("{value:e}"),
        _ => format!("{value:.decimals$}"),
    };
    let negative = text.starts_with('-') && text.contains(|digit| matches!(digit, '1'..='9'));
    let digits = text.trim_start_matches('-');
    if negative { format!("−{digits}") } else { digits.to_owned() }
}
