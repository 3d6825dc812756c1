//! Devices by name.

use candle_core::Device;
use clap::ValueEnum;

/// The device of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// The processor
    Cpu,
    /// A GPU, in a build with the feature cuda
    Cuda,
}

impl DeviceName {
    /// The device of that name, the first of many.
    pub fn open(self) -> aca_core::Result<Device> {
        self.open_number(0)
    }

    /// The device of that name, of many GPUs the one of this number.
    pub fn open_number(self, number: usize) -> aca_core::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => aca_core::kernels::cuda::device(number),
        }
    }
}
