//! Normalisation of channels over batches of images.
#![allow(unsafe_code, reason = "a launch hands addresses to the GPU")]

use aca_core::kernels::cuda::{Argument, Grid, Kernel, Source, empty};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp2, Layout, Result, bail};

use super::{LAYERS, THREADS, blocks, instance};
use crate::layers::kernels::norm::Planes;

/// Numbers that a thread adds before a channel gets more parts, most parts, and what parts are multiples of.
/// All say how sums are rounded, so they know nothing of the GPU.
const SHARE: usize = 16;
const PARTS: usize = 64;
const PACK: usize = 4;

/// A batch norm with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    /// Sizes.
    pub(crate) planes: Planes,
    /// One a channel.
    pub(crate) weight: Source<'a>,
    /// One a channel.
    pub(crate) bias: Source<'a>,
    /// Added to variances.
    pub(crate) eps: f64,
    /// Whether the result is cut off below zero.
    pub(crate) relu: bool,
}

/// What the moments of a norm are of.
#[derive(Clone, Copy)]
pub(crate) enum Batch<'a> {
    /// Its own input.
    Own,
    /// Not the input.
    Given,
    /// The input and more: sums of cotangents over so many numbers of a channel.
    All(Source<'a>, f64),
}

/// Sums over channels as the two parts of a number per channel: mean and variance, or sums of cotangents.
pub(crate) type Sums = CudaStorage;

impl Norm<'_> {
    /// Returns the values by the moments of `x`, and the moments, in two launches.
    pub(crate) fn batch_value(&self, x: Source<'_>) -> Result<(CudaStorage, Sums)> {
        let parts = self.parts(x)?;
        let mut moments = self.room(2, DType::F64)?;
        let parts = Argument::Read(Source::whole(&parts));
        Ok((self.values(x, Argument::Write(&mut moments, 0), parts)?, moments))
    }

    /// Returns the values by given moments, in one launch.
    pub(crate) fn value(&self, x: Source<'_>, moments: Source<'_>) -> Result<CudaStorage> {
        self.values(x, Argument::Read(moments), Argument::Nothing)
    }

    fn values(
        &self,
        x: Source<'_>,
        moments: Argument<'_>,
        parts: Argument<'_>,
    ) -> Result<CudaStorage> {
        let mut out = self.room(self.planes.count(), x.dtype())?;
        let [channels, pixels, count, share] = self.sizes();
        let arguments = [
            Argument::Write(&mut out, 0),
            moments,
            parts,
            Argument::Read(x),
            Argument::Read(self.weight),
            Argument::Read(self.bias),
            channels,
            pixels,
            count,
            share,
            Argument::Number(self.eps),
            self.cut(),
        ];
        self.launch("norm_value", x.dtype(), arguments)?;
        Ok(out)
    }

    /// Returns the moments of `x`.
    pub(crate) fn batch_moments(&self, x: Source<'_>) -> Result<Sums> {
        let parts = self.parts(x)?;
        let mut moments = self.room(2, DType::F64)?;
        let [_, _, count, share] = self.sizes();
        let of_channel = Argument::Size(self.grid().blocks[1]);
        let from = Argument::Read(Source::whole(&parts));
        let arguments = [Argument::Write(&mut moments, 0), from, of_channel, count, share];
        self.gather("norm_moments_f64", arguments)?;
        Ok(moments)
    }

    /// Mean, and squares without it, of the parts of every channel.
    fn parts(&self, x: Source<'_>) -> Result<Sums> {
        let mut parts = self.room(2 * self.grid().blocks[1], DType::F64)?;
        let [channels, pixels, count, share] = self.sizes();
        let arguments =
            [Argument::Write(&mut parts, 0), Argument::Read(x), channels, pixels, count, share];
        self.launch("norm_parts", x.dtype(), arguments)?;
        Ok(parts)
    }

    /// Returns the sums of the cotangent `z`, and of it times `x` less the mean, over every channel.
    pub(crate) fn sums(&self, xz: [Source<'_>; 2], moments: Source<'_>) -> Result<Sums> {
        let parts = self.sums_of_parts(xz, moments)?;
        let mut sums = self.room(2, DType::F64)?;
        let of_channel = Argument::Size(self.grid().blocks[1]);
        let from = Argument::Read(Source::whole(&parts));
        self.gather("norm_totals_f64", [Argument::Write(&mut sums, 0), from, of_channel])?;
        Ok(sums)
    }

    fn sums_of_parts(&self, [x, z]: [Source<'_>; 2], moments: Source<'_>) -> Result<Sums> {
        let mut parts = self.room(2 * self.grid().blocks[1], DType::F64)?;
        let [channels, pixels, count, share] = self.sizes();
        let arguments = [
            Argument::Write(&mut parts, 0),
            Argument::Read(moments),
            Argument::Read(x),
            Argument::Read(z),
            Argument::Read(self.weight),
            Argument::Read(self.bias),
            channels,
            pixels,
            count,
            share,
            Argument::Number(self.eps),
            self.cut(),
        ];
        self.launch("norm_sums", x.dtype(), arguments)?;
        Ok(parts)
    }

    /// Pulls the cotangent `z` back to x, weight and bias, in two launches.
    pub(crate) fn pull(
        &self,
        [x, z]: [Source<'_>; 2],
        moments: Source<'_>,
        batch: Batch<'_>,
    ) -> Result<[CudaStorage; 3]> {
        let parts = self.sums_of_parts([x, z], moments)?;
        let dtype = x.dtype();
        let mut bars =
            [self.room(self.planes.count(), dtype)?, self.room(1, dtype)?, self.room(1, dtype)?];
        let (all, total) = match batch {
            Batch::Own => (Argument::Nothing, self.planes.count() as f64),
            Batch::Given => (Argument::Nothing, 0.0),
            Batch::All(sums, count) => (Argument::Read(sums), count),
        };
        let [channels, pixels, count, share] = self.sizes();
        let [x_bar, weight_bar, bias_bar] = &mut bars;
        let arguments = [
            Argument::Write(x_bar, 0),
            Argument::Write(weight_bar, 0),
            Argument::Write(bias_bar, 0),
            Argument::Read(Source::whole(&parts)),
            all,
            Argument::Read(moments),
            Argument::Read(x),
            Argument::Read(z),
            Argument::Read(self.weight),
            Argument::Read(self.bias),
            channels,
            pixels,
            count,
            share,
            Argument::Number(total),
            Argument::Number(self.eps),
            self.cut(),
        ];
        self.launch("norm_pull", dtype, arguments)?;
        Ok(bars)
    }

    fn device(&self) -> &CudaDevice {
        self.weight.device()
    }

    /// Memory for so many numbers per channel, all of which the launch that follows writes.
    fn room(&self, numbers: usize, dtype: DType) -> Result<CudaStorage> {
        // SAFETY: every use in this file is followed by a launch that writes every element.
        Ok(unsafe { empty(self.device(), self.planes.channels * numbers, dtype)? })
    }

    /// Numbers of a part.
    fn share(&self) -> usize {
        let count = self.planes.count();
        let parts = count.div_ceil(THREADS * SHARE).clamp(1, PARTS);
        count.div_ceil(parts).next_multiple_of(PACK).max(PACK)
    }

    fn grid(&self) -> Grid {
        blocks(self.planes.channels, self.planes.count().div_ceil(self.share()).max(1))
    }

    fn sizes(&self) -> [Argument<'static>; 4] {
        let Planes { channels, pixels, .. } = self.planes;
        [channels, pixels, self.planes.count(), self.share()].map(Argument::Size)
    }

    fn cut(&self) -> Argument<'static> {
        Argument::Size(usize::from(self.relu))
    }

    /// Launches a kernel with a block for each part of each channel.
    fn launch<const N: usize>(
        &self,
        kernel: &str,
        dtype: DType,
        arguments: [Argument<'_>; N],
    ) -> Result<()> {
        let name = instance(kernel, dtype);
        let kernel = Kernel { program: &LAYERS, name: &name, grid: self.grid() };
        // SAFETY: sizes, shares and the sizes of all memory follow from the same planes.
        unsafe { kernel.launch(self.device(), arguments)? };
        Ok(())
    }

    /// Launches a kernel with a block for each channel.
    fn gather<const N: usize>(&self, name: &str, arguments: [Argument<'_>; N]) -> Result<()> {
        let kernel = Kernel { program: &LAYERS, name, grid: blocks(self.planes.channels, 1) };
        // SAFETY: as above.
        unsafe { kernel.launch(self.device(), arguments)? };
        Ok(())
    }
}

/// `running <- kept running + part moment`, for the mean or the variance of every channel.
pub(crate) struct Follow {
    /// 0 for the mean, 1 for the variance.
    pub(crate) entry: usize,
    /// What is kept.
    pub(crate) kept: f64,
    /// What is added of the moment.
    pub(crate) part: f64,
}

impl InplaceOp2 for Follow {
    fn name(&self) -> &'static str {
        "batch-norm-statistics"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        bail!("running statistics follow those of a batch on a GPU here")
    }

    fn cuda_fwd(
        &self,
        running: &mut CudaStorage,
        layout: &Layout,
        moments: &CudaStorage,
        moments_layout: &Layout,
    ) -> Result<()> {
        let (device, dtype) = (running.device().clone(), running.dtype());
        let channels = layout.shape().elem_count();
        let name = instance("follow", dtype);
        let kernel = Kernel { program: &LAYERS, name: &name, grid: Grid::over(channels) };
        let arguments = [
            Argument::Write(running, layout.start_offset()),
            Argument::Read(Source::new(moments, moments_layout)?),
            Argument::Size(channels),
            Argument::Size(self.entry),
            Argument::Number(self.kept),
            Argument::Number(self.part),
        ];
        // SAFETY: there are two moments for each of so many channels.
        unsafe { kernel.launch(&device, arguments)? };
        Ok(())
    }
}
