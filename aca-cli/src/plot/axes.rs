//! A plane with a grid, for curves.

use super::axis::{Axis, Tick};
use super::canvas::{Canvas, Color, Point, Type};
use super::{FRAME, GRID, INK, MUTED};

/// A rectangle of a picture, in pixels.
#[derive(Clone, Copy)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// Two axes and the rectangle that they span.
pub struct Axes {
    x: Axis,
    y: Axis,
    plane: Rect,
}

const TICK_SIZE: f64 = 14.0;
const LABEL_SIZE: f64 = 16.0;

impl Axes {
    /// Draws grid, ticks and labels into `rect`.
    pub fn draw(
        canvas: &mut Canvas,
        rect: Rect,
        (x, x_label): (Axis, &str),
        (y, y_label): (Axis, &str),
    ) -> Self {
        let left = Self::gutter(canvas, rect, &y);
        let y_ticks = y_ticks(rect, &y);
        let plane = Rect {
            left: rect.left + left,
            top: rect.top,
            width: rect.width - left - 14.0,
            height: rect.height - 50.0,
        };
        let axes = Self { x, y, plane };
        let Rect { left, top, width, height } = plane;
        let (right, bottom) = (left + width, top + height);
        for tick in axes.x.ticks((width / 85.0) as usize) {
            let x = left + width * axes.x.fraction(tick.value);
            canvas.line([(x, top), (x, bottom)], 1.0, GRID);
            canvas.text(&tick.text, (x, bottom + 14.0), Type::new(TICK_SIZE, MUTED, 0.5));
        }
        for tick in y_ticks {
            let y = bottom - height * axes.y.fraction(tick.value);
            canvas.line([(left, y), (right, y)], 1.0, GRID);
            canvas.text(&tick.text, (left - 8.0, y), Type::new(TICK_SIZE, MUTED, 1.0));
        }
        canvas.line([(left, top), (left, bottom), (right, bottom)], 1.25, FRAME);
        let middle = (left + width / 2.0, top + height / 2.0);
        canvas.text(x_label, (middle.0, bottom + 38.0), Type::new(LABEL_SIZE, INK, 0.5));
        let upright = Type { upright: true, ..Type::new(LABEL_SIZE, INK, 0.5) };
        canvas.text(y_label, (rect.left + 9.0, middle.1), upright);
        axes
    }

    /// The width that ticks and label of the y axis take up.
    pub fn gutter(canvas: &Canvas, rect: Rect, y: &Axis) -> f64 {
        let ticks = y_ticks(rect, y).into_iter();
        let widths = ticks.map(|tick| canvas.text_width(&tick.text, TICK_SIZE));
        34.0 + widths.fold(0.0, f64::max)
    }

    /// Where a point of the plane lies in the picture.
    pub fn place(&self, (x, y): Point) -> Point {
        let Rect { left, top, width, height } = self.plane;
        (left + width * self.x.fraction(x), top + height * (1.0 - self.y.fraction(y)))
    }

    /// Draws a curve; points without a place are left out.
    pub fn curve(&self, canvas: &mut Canvas, points: &[Point], width: f64, color: Color) {
        let places = points.iter().map(|&point| self.place(point));
        let places = places.filter(|(x, y)| x.is_finite() && y.is_finite());
        canvas.line(places, width, color);
    }

    /// The rectangle between the axes.
    pub fn plane(&self) -> Rect {
        self.plane
    }
}

fn y_ticks(rect: Rect, y: &Axis) -> Vec<Tick> {
    y.ticks((rect.height / 55.0) as usize)
}
