//! Sums over states, and what else a solve reads back.
#![allow(unsafe_code, reason = "structures of addresses go to the GPU as they are")]

use candle_core::Tensor;
use candle_core::cuda_backend::cudarc::driver::{DevicePtrMut, DeviceRepr};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use smallvec::SmallVec;

use super::super::{Scale, Term, View};
use super::launch::{Gpu, Grid, Inputs, TERMS, addresses, aligned, threads, weights as padded};
use super::sums::combine;
use crate::Result;

/// Most parts of a row, and how many elements or packs a thread adds before a row gets more of them.
/// Both say how a sum is rounded, so they know nothing of the GPU. A block sums a part; where there are a
/// dozen times more than run at once, few wait for the last.
const PARTS: usize = 8192;
const SHARE: usize = 4;

/// Sums that one launch makes of each row.
const RESULTS: usize = 2;

/// The rows of a state and how a launch goes through them.
struct Plan {
    rows: usize,
    length: usize,
    packs: bool,
    grid: Grid,
}

impl Plan {
    fn new(gpu: &Gpu<'_>, rows: usize, size: usize) -> Self {
        let length = size / rows.max(1);
        let packs = length.is_multiple_of(gpu.pack());
        let items = if packs { length / gpu.pack() } else { length };
        let threads = threads(items);
        let parts = items.div_ceil(threads * SHARE).clamp(1, PARTS);
        Self { rows, length, packs, grid: Grid { blocks: [rows, parts], threads } }
    }

    /// Returns the tensor, or a copy where its first element lies between two packs. `Tensor::copy` would
    /// keep that place, within a copy of all that is around.
    fn place(&self, gpu: &Gpu<'_>, x: &Tensor) -> Result<Tensor> {
        let view = View::held(x);
        let address = Inputs::new(gpu).address(&view, self.rows * self.length)?;
        Ok(if self.packs && !aligned([address]) { x.force_contiguous()? } else { x.clone() })
    }

    /// Sums of all rows, `results` a row, by a kernel that is told where its parts go.
    fn sums(
        &self,
        gpu: &Gpu<'_>,
        results: usize,
        kernel: impl FnOnce(u64) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let (rows, parts) = (self.rows, self.grid.blocks[1]);
        // SAFETY: the kernel writes one number for each row, part and result.
        let mut list = unsafe { gpu.stream.alloc::<f64>(rows * parts * results) }.w()?;
        let (address, written) = list.device_ptr_mut(&gpu.stream);
        kernel(address)?;
        drop(written);
        if parts == 1 {
            return Ok(gpu.stream.clone_dtoh(&list).w()?);
        }
        // SAFETY: `sum_parts` writes one number for each row and result.
        let mut sums = unsafe { gpu.stream.alloc::<f64>(rows * results) }.w()?;
        let mut inputs = Inputs::new(gpu);
        let (from, (to, written)) = (inputs.list(&list), sums.device_ptr_mut(&gpu.stream));
        // SAFETY: both lists have these sizes and live until the result has been read.
        unsafe { gpu.sum_parts(to, from, [rows, parts, results])? };
        drop((written, inputs));
        Ok(gpu.stream.clone_dtoh(&sums).w()?)
    }
}

/// See `Norms` in `reductions.cu`.
#[repr(C)]
pub(super) struct Norms {
    parts: u64,
    y0: u64,
    y1: u64,
    rtol_each: u64,
    atol_each: u64,
    x: [u64; TERMS],
    w: [[f64; TERMS]; RESULTS],
    rtol: f64,
    atol: f64,
    length: u64,
    count: i32,
    results: i32,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Norms {}

/// Returns the sums behind [`super::super::scaled_norms_each`], a list for each row; the tensors are
/// contiguous.
pub(crate) fn norms(
    device: &CudaDevice,
    (y0, y1): (&Tensor, &Tensor),
    scale: &Scale,
    terms: (&[Tensor], &[Vec<f64>]),
    rows: usize,
) -> Result<Vec<SmallVec<[f64; 2]>>> {
    let (k, weights) = terms;
    let gpu = Gpu::new(device, y0.dtype())?;
    let plan = Plan::new(&gpu, rows, y0.elem_count());
    let mut norms = vec![SmallVec::new(); rows];
    for weights in weights.chunks(RESULTS) {
        let mean = |sum: f64| (sum / plan.length as f64).sqrt();
        let sums = norms_of(&gpu, &plan, [y0, y1], scale, (k, weights))?;
        for (norms, sums) in norms.iter_mut().zip(sums.chunks_exact(weights.len())) {
            norms.extend(sums.iter().copied().map(mean));
        }
    }
    Ok(norms)
}

/// The sums of at most [`RESULTS`] lists of weights.
fn norms_of(
    gpu: &Gpu<'_>,
    plan: &Plan,
    y: [&Tensor; 2],
    scale: &Scale,
    (k, weights): (&[Tensor], &[Vec<f64>]),
) -> Result<Vec<f64>> {
    let weight = |r: usize, i: usize| weights.get(r).map_or(0.0, |weights| weights[i]);
    let used: Vec<usize> =
        (0..k.len()).filter(|&i| (0..RESULTS).any(|r| weight(r, i) != 0.0)).collect();
    if used.len() > TERMS {
        // The errors themselves, then their norms.
        let errors = |e: &Vec<f64>| {
            let terms = e.iter().copied().zip(k).filter(|(e, _)| *e != 0.0);
            let terms: Vec<Term<'_>> = terms.collect();
            combine(gpu.device, None, &terms, None, y[0].shape().clone())
        };
        let errors = weights.iter().map(errors).collect::<Result<Vec<_>>>()?;
        let unit = |r: usize| (0..errors.len()).map(|i| f64::from(u8::from(i == r))).collect();
        let units: Vec<Vec<f64>> = (0..errors.len()).map(unit).collect();
        return norms_of(gpu, plan, y, scale, (&errors, &units));
    }
    let tolerances = match scale {
        Scale::Each { rtol, atol } => Some([plan.place(gpu, rtol)?, plan.place(gpu, atol)?]),
        Scale::Uniform { .. } => None,
    };
    let y = [plan.place(gpu, y[0])?, plan.place(gpu, y[1])?];
    let k = used.iter().map(|&i| plan.place(gpu, &k[i])).collect::<Result<SmallVec<[_; 8]>>>()?;
    let views: SmallVec<[_; 16]> =
        y.iter().chain(&k).chain(tolerances.iter().flatten()).map(View::held).collect();
    let mut inputs = Inputs::new(gpu);
    let size = plan.rows * plan.length;
    let list = views.iter().map(|view| inputs.address(view, size));
    let list = list.collect::<Result<SmallVec<[u64; 20]>>>()?;
    let ends = &list[2 + k.len()..];
    let (rtol, atol) = match *scale {
        Scale::Uniform { rtol, atol } => (rtol, atol),
        Scale::Each { .. } => (0.0, 0.0),
    };
    let mut arguments = Norms {
        parts: 0,
        y0: list[0],
        y1: list[1],
        rtol_each: ends.first().copied().unwrap_or(0),
        atol_each: ends.last().copied().unwrap_or(0),
        x: addresses(&list[2..2 + k.len()]),
        w: [0, 1].map(|r| padded(used.iter().map(|&i| weight(r, i)))),
        rtol,
        atol,
        length: plan.length as u64,
        count: k.len() as i32,
        results: weights.len() as i32,
    };
    plan.sums(gpu, weights.len(), |parts| {
        arguments.parts = parts;
        gpu.launch("norms", plan.packs, &plan.grid, &arguments)
    })
}

/// See `Dots` in `reductions.cu`.
#[repr(C)]
pub(super) struct Dots {
    parts: u64,
    a: u64,
    b: u64,
    length: u64,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Dots {}

/// Returns the inner product of each pair of rows; the tensors are contiguous.
pub(crate) fn dots(device: &CudaDevice, a: &Tensor, b: &Tensor, rows: usize) -> Result<Vec<f64>> {
    let gpu = Gpu::new(device, a.dtype())?;
    let plan = Plan::new(&gpu, rows, a.elem_count());
    let (a, b) = (plan.place(&gpu, a)?, plan.place(&gpu, b)?);
    let (a, b) = (View::held(&a), View::held(&b));
    let mut inputs = Inputs::new(&gpu);
    let size = plan.rows * plan.length;
    let (a, b) = (inputs.address(&a, size)?, inputs.address(&b, size)?);
    plan.sums(&gpu, 1, |parts| {
        let arguments = Dots { parts, a, b, length: plan.length as u64 };
        gpu.launch("dots", plan.packs, &plan.grid, &arguments)
    })
}
