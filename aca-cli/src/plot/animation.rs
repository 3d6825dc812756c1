//! Moving stars.

use std::path::Path;

use super::axes::Rect;
use super::canvas::{Canvas, Image, Type, render};
use super::legend::{self, Entry, Sample};
use super::orbits::{EYE, Orbits};
use super::space::Space;
use super::{HUES, INK, MUTED, WHITE, caption, film, mixed};
use crate::report::Result;

const WIDTH: usize = 800;
const HEIGHT: usize = 420;
const FRAMES: usize = 96;
/// The part of the time that a star's tail reaches back.
const TAIL: f64 = 0.12;

/// Draws true and predicted bodies side by side, moving, as an endless GIF.
pub fn animation(
    path: &Path,
    truth: &Orbits,
    fitted: &Orbits,
    times: &[f64],
    caption: &str,
) -> Result<()> {
    let scene = Scene { truth, fitted, times, caption };
    let lengths = truth.iter().chain(fitted).map(Vec::len);
    let count = lengths.fold(times.len(), usize::min);
    let (frames, last) = (FRAMES.min(count), count.saturating_sub(1));
    let frame = |i: usize| scene.frame(i * last / (frames - 1).max(1));
    film::write(path, (0..frames).map(frame))
}

/// The halves of a picture.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    True,
    Predicted,
}

struct Scene<'a> {
    truth: &'a Orbits,
    fitted: &'a Orbits,
    times: &'a [f64],
    caption: &'a str,
}

impl Scene<'_> {
    /// The picture at time `now`, an index.
    fn frame(&self, now: usize) -> Result<Image> {
        render(WIDTH, HEIGHT, |canvas| {
            let (left, right) = (10.0, WIDTH as f64 / 2.0 + 5.0);
            let place = |left| Rect { left, top: 52.0, width: 385.0, height: 365.0 };
            self.side(canvas, place(left), Side::True, now);
            self.side(canvas, place(right), Side::Predicted, now);
            let clock = format!("t = {:.2}", self.times[now]);
            let place = (WIDTH as f64 / 2.0 - 26.0, HEIGHT as f64 - 20.0);
            canvas.text(&clock, place, Type::new(17.0, INK, 0.0));
            let entry = |text, sample| Entry { text, sample };
            let entries = [
                entry("star 1", Sample::Dot(HUES[0])),
                entry("star 2", Sample::Dot(HUES[1])),
                entry("star 3", Sample::Dot(HUES[2])),
                entry("true place", Sample::Ring(MUTED)),
            ];
            let start = legend::draw(canvas, (WIDTH as f64 - 20.0, 30.0), &entries);
            caption(canvas, self.caption, start);
        })
    }

    fn side(&self, canvas: &mut Canvas, rect: Rect, side: Side, now: usize) {
        let (title, orbits) = match side {
            Side::True => ("true", self.truth),
            Side::Predicted => ("predicted", self.fitted),
        };
        let all = self.truth.iter().chain(self.fitted).flatten().copied();
        let space = Space::around(all, EYE, rect);
        space.draw_box(canvas, ["x", "y", "z"]);
        canvas.text(title, (rect.left + 14.0, rect.top + 12.0), Type::new(16.0, MUTED, 0.0));
        let place = |orbit: &[[f64; 3]], i: usize| space.place(orbit[i]);
        for (orbit, hue) in orbits.iter().zip(HUES) {
            let whole = orbit.iter().map(|&point| space.place(point));
            canvas.line(whole, 1.0, mixed(WHITE, hue, 0.2));
        }
        let reach = (TAIL * self.times.len() as f64) as usize;
        let tail = now.saturating_sub(reach)..=now;
        for (orbit, hue) in orbits.iter().zip(HUES) {
            for i in tail.clone().skip(1) {
                let strength = 1.0 - (now - i) as f64 / reach as f64;
                let ends = [place(orbit, i - 1), place(orbit, i)];
                canvas.line(ends, 1.0 + 2.5 * strength, mixed(WHITE, hue, 0.2 + 0.7 * strength));
            }
        }
        for (i, (orbit, hue)) in orbits.iter().zip(HUES).enumerate() {
            if side == Side::Predicted {
                canvas.ring(place(&self.truth[i], now), 8.5, 1.25, MUTED);
            }
            canvas.dot(place(orbit, now), 6.0, hue);
        }
    }
}
