//! A box in space, seen from afar.

use super::axes::Rect;
use super::axis::{Axis, Tick};
use super::canvas::{Canvas, Point, Type, span};
use super::{FRAME, GRID, INK, MUTED};

/// A parallel projection of a box, true to scale.
pub struct Space {
    axes: [Axis; 3],
    /// Directions of the picture's x and y and towards the eye.
    right: [f64; 3],
    up: [f64; 3],
    toward: [f64; 3],
    scale: f64,
    /// The picture's place of the box's middle.
    middle: Point,
}

/// Where the eye is: degrees around the vertical and above the horizon.
#[derive(Clone, Copy)]
pub struct Eye {
    pub yaw: f64,
    pub pitch: f64,
}

const TICK_SIZE: f64 = 12.5;
const LABEL_SIZE: f64 = 15.0;

impl Space {
    /// Fits a box around `points`, with its ticks and labels, into `rect`.
    pub fn around(points: impl Iterator<Item = [f64; 3]> + Clone, eye: Eye, rect: Rect) -> Self {
        let axis = |i: usize| Axis::around(points.clone().map(|point| point[i]), 0.04);
        let ((sin_yaw, cos_yaw), (sin_pitch, cos_pitch)) =
            (eye.yaw.to_radians().sin_cos(), eye.pitch.to_radians().sin_cos());
        let mut space = Self {
            axes: [axis(0), axis(1), axis(2)],
            right: [-sin_yaw, cos_yaw, 0.0],
            up: [-sin_pitch * cos_yaw, -sin_pitch * sin_yaw, cos_pitch],
            toward: [cos_pitch * cos_yaw, cos_pitch * sin_yaw, sin_pitch],
            scale: 1.0,
            middle: (0.0, 0.0),
        };
        let corners = space.corners();
        let (left, right) = span(corners.iter().map(|corner| corner.0));
        let (top, bottom) = span(corners.iter().map(|corner| corner.1));
        // Ticks and labels stand to the left of the box and below it.
        let (beside, below) = (60.0, 46.0);
        let room = (rect.width - 1.5 * beside, rect.height - below);
        space.scale = (room.0 / (right - left)).min(room.1 / (bottom - top));
        space.middle = (rect.left + rect.width / 2.0 + 0.25 * beside, rect.top + room.1 / 2.0);
        space
    }

    /// Where a point lies in the picture.
    pub fn place(&self, point: [f64; 3]) -> Point {
        let center = self.axes.each_ref().map(|axis| (axis.ends().0 + axis.ends().1) / 2.0);
        let from_center = [0, 1, 2].map(|i| point[i] - center[i]);
        let (x, y) = (dot(self.right, from_center), dot(self.up, from_center));
        (self.middle.0 + self.scale * x, self.middle.1 - self.scale * y)
    }

    fn corners(&self) -> Vec<Point> {
        let end = |i: usize, bits: usize| {
            let (low, high) = self.axes[i].ends();
            if bits >> i & 1 == 0 { low } else { high }
        };
        (0..8).map(|bits| self.place([end(0, bits), end(1, bits), end(2, bits)])).collect()
    }

    /// Draws the three far sides with a grid, ticks and the axes' names.
    pub fn draw_box(&self, canvas: &mut Canvas, labels: [&str; 3]) {
        let (far, near) = (self.corner(false), self.corner(true));
        let mut line = |start: [f64; 3], j: usize, color| {
            let ends = [start, with(start, j, near[j])];
            canvas.line(ends.map(|end| self.place(end)), 1.0, color);
        };
        let others = |i: usize| (0..3).filter(move |&j| j != i);
        for i in 0..3 {
            for tick in self.ticks(i) {
                others(i).for_each(|j| line(with(far, i, tick.value), j, GRID));
            }
        }
        for i in 0..3 {
            line(far, i, FRAME);
            others(i).for_each(|j| line(with(far, j, near[j]), i, FRAME));
        }
        let (along_y, along_x) = (with(far, 0, near[0]), with(far, 1, near[1]));
        let left = |corner| self.place(corner).0;
        let upright = if left(along_y) < left(along_x) { along_y } else { along_x };
        for (i, corner) in [along_x, along_y, upright].into_iter().enumerate() {
            self.draw_scale(canvas, i, corner, labels[i]);
        }
    }

    /// The corner of the box that is nearest to the eye or farthest from it.
    fn corner(&self, nearest: bool) -> [f64; 3] {
        [0, 1, 2].map(|i| {
            let (low, high) = self.axes[i].ends();
            if (self.toward[i] > 0.0) == nearest { high } else { low }
        })
    }

    /// Ticks of axis `i`, about 45 pixels apart, but not too few.
    fn ticks(&self, i: usize) -> Vec<Tick> {
        let far = self.corner(false);
        let (low, high) = self.axes[i].ends();
        let (start, end) = (self.place(with(far, i, low)), self.place(with(far, i, high)));
        let length = (end.0 - start.0).hypot(end.1 - start.1);
        self.axes[i].ticks((length / 45.0).clamp(3.0, 5.0) as usize)
    }

    /// Writes ticks and name of axis `i` along the edge of the box through `corner`.
    fn draw_scale(&self, canvas: &mut Canvas, i: usize, corner: [f64; 3], label: &str) {
        let (low, high) = self.axes[i].ends();
        let (start, end) = (self.place(with(corner, i, low)), self.place(with(corner, i, high)));
        let middle = ((start.0 + end.0) / 2.0, (start.1 + end.1) / 2.0);
        // Outward across the edge, away from the middle of the box.
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        let across = (dy / dx.hypot(dy), -dx / dx.hypot(dy));
        let away = (middle.0 - self.middle.0) * across.0 + (middle.1 - self.middle.1) * across.1;
        let out = (across.0 * away.signum(), across.1 * away.signum());
        let beside = |at: Point, distance: f64| (at.0 + distance * out.0, at.1 + distance * out.1);
        let align = 0.5 - 0.5 * (1.6 * out.0).clamp(-1.0, 1.0);
        let shared = self.place(with(self.corner(true), 2, self.axes[2].ends().0));
        for tick in self.ticks(i) {
            let at = self.place(with(corner, i, tick.value));
            canvas.line([at, beside(at, 4.0)], 1.0, FRAME);
            // Where the edges of x and y meet there is room for one number at most.
            if (at.0 - shared.0).hypot(at.1 - shared.1) > 12.0 {
                canvas.text(&tick.text, beside(at, 12.0), Type::new(TICK_SIZE, MUTED, align));
            }
        }
        canvas.text(label, beside(middle, 36.0), Type::new(LABEL_SIZE, INK, 0.5));
    }
}

fn with(mut point: [f64; 3], i: usize, value: f64) -> [f64; 3] {
    point[i] = value;
    point
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
