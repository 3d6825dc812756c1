//! Kernels of layers and systems on NVIDIA's GPUs: CUDA C that is compiled where it first runs, and cuDNN.

use aca_core::kernels::View;
use aca_core::kernels::cuda::{Grid, Program, Source};
use candle_core::{CudaDevice, CudaStorage, DType, Result, Storage, Tensor, bail};

mod activations;
#[cfg(feature = "nccl")]
mod collective;
#[cfg(feature = "cudnn")]
mod convolutions;
mod norm;
mod systems;

pub(crate) use activations::{
    applied, epilogue, kept_epilogue, pulled, pulled_columns, with_times,
};
#[cfg(feature = "nccl")]
pub(crate) use collective::{Collective, Sent};
#[cfg(feature = "cudnn")]
pub(crate) use convolutions::{correlate, input_gradient, weight_gradient};
pub(crate) use norm::{Batch, Follow, Norm};
pub(crate) use systems::System;

static LAYERS: Program = Program::new(
    "aca layers",
    &[include_str!("cuda/activations.cu"), include_str!("cuda/norm.cu")],
);

static SYSTEMS: Program = Program::new("aca systems", &[include_str!("cuda/systems.cu")]);

/// Threads of a block that works on its own share.
const THREADS: usize = 256;

/// The instance of a kernel for elements of a type.
fn instance(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", dtype.as_str())
}

/// Blocks along both axes, of all threads that kernels are compiled for.
fn blocks(x: usize, y: usize) -> Grid {
    Grid { blocks: [x, y], threads: THREADS }
}

/// The GPU that a tensor lives on.
fn gpu(x: &Tensor) -> Result<&CudaDevice> {
    x.device().as_cuda_device()
}

/// What a tensor's storage holds on a GPU.
pub(crate) fn storage(storage: &Storage) -> Result<&CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => bail!("a kernel of the GPU met a tensor that is not on one; move it there"),
    }
}

/// The views of contiguous tensors.
fn views<'a, const N: usize>(tensors: [&'a Tensor; N]) -> Result<[View<'a>; N]> {
    let views = tensors.into_iter().map(View::new).collect::<aca_core::Result<Vec<_>>>()?;
    views.try_into().map_err(|_| candle_core::Error::msg("a view for each tensor"))
}

/// What lies behind views.
fn sources<'a, const N: usize>(views: &'a [View<'_>; N]) -> Result<[Source<'a>; N]> {
    let sources = views.iter().map(Source::of).collect::<aca_core::Result<Vec<_>>>()?;
    sources.try_into().map_err(|_| candle_core::Error::msg("a source for each view"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels with the number of their parameters.
    const KERNELS: [(&str, usize); 10] = [
        ("activate", 7),
        ("pull", 5),
        ("columns", 9),
        ("column_totals", 4),
        ("with_times", 6),
        ("norm_parts", 6),
        ("norm_value", 12),
        ("norm_sums", 12),
        ("norm_pull", 17),
        ("follow", 6),
    ];

    fn assert_takes(ptx: &str, kernel: &str, count: usize) {
        let parameters = |i: usize| ptx.contains(&format!(" {kernel}_param_{i}"));
        assert!((0..count).all(parameters) && !parameters(count), "{kernel} takes not {count}");
        let narrow = ["u32", "u8", "f32", "b32", "b8", "align"];
        let narrow = narrow.map(|kind| format!(".param .{kind} {kernel}_param_"));
        assert!(!narrow.iter().any(|text| ptx.contains(text)), "{kernel}: not of eight bytes");
    }

    #[test]
    fn cuda_kernels_of_layers_compile_for_turing_and_later_and_take_our_arguments() {
        for capability in [(7, 5), (8, 0), (9, 0), (12, 0)] {
            let ptx = LAYERS.compile(capability).unwrap_or_else(|e| panic!("{capability:?}: {e}"));
            for (kernel, count) in KERNELS {
                for dtype in [DType::F32, DType::F64] {
                    assert_takes(&ptx, &instance(kernel, dtype), count);
                }
            }
            assert_takes(&ptx, "norm_moments_f64", 5);
            assert_takes(&ptx, "norm_totals_f64", 3);
        }
    }

    #[test]
    fn cuda_kernels_of_systems_compile_for_turing_and_later_and_take_our_arguments() {
        for capability in [(7, 5), (8, 0), (9, 0), (12, 0)] {
            let ptx = SYSTEMS.compile(capability).unwrap_or_else(|e| panic!("{capability:?}: {e}"));
            for system in systems::NAMES {
                for dtype in [DType::F32, DType::F64] {
                    assert_takes(&ptx, &instance(&format!("slopes_{system}"), dtype), 6);
                    assert_takes(&ptx, &instance(&format!("pullbacks_{system}"), dtype), 9);
                }
            }
        }
    }
}
