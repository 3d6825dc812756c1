use aca_core::{Solver, Time};
use candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
use candle_core::{DType, Device, Tensor};

use super::gpu;
use crate::common::dopri5;
use crate::kernels::noise;

/// Free memory of the GPU.
fn free(gpu: &Device) -> usize {
    gpu.synchronize().unwrap();
    mem_get_info().unwrap().0
}

#[test]
#[ignore = "reads the memory of the whole GPU: run it alone"]
fn memory_of_a_long_solve_on_a_gpu_does_not_grow() {
    let Some(gpu) = gpu() else { return };
    let swing = |t: &Time, y: &Tensor| y.affine(t.value().cos(), 0.0);
    let y0 = noise(1 << 20, 1, DType::F64).to_device(&gpu).unwrap();
    let solver = Solver { max_steps: 100_000, ..dopri5(1e-9) };
    let solve = |t1: f64| solver.solve(&swing, &y0, (0.0, t1), &mut ()).unwrap().stats.accepted;
    let few = solve(3.0);
    let before = free(&gpu);
    let many = solve(300.0);
    let grown = before.saturating_sub(free(&gpu));
    assert!(many > 50 * few, "{many} steps are not many beside {few}");
    assert!(grown <= 64 << 20, "{grown} bytes more after {many} steps of 8 MiB a state");
}
