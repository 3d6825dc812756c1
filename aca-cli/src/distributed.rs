//! One command in many processes.

use std::path::PathBuf;
use std::sync::Arc;

use aca_models::communicator::{Alone, Communicator};
use candle_core::Device;

use crate::args::DeviceName;
use crate::report::Result;

/// Runs `work` in this process alone, or as one of those that mpirun started, on a device of its own.
///
/// Then a signal ends the process at once, with a message from the first; `resume` is the checkpoint
/// that it names.
pub fn run(
    distributed: bool,
    device: DeviceName,
    resume: Option<PathBuf>,
    work: impl FnOnce(Arc<dyn Communicator>, Device) -> Result<()>,
) -> Result<()> {
    match distributed {
        true => among_ranks(device, resume, work),
        false => work(Arc::new(Alone), device.open()?),
    }
}

#[cfg(not(feature = "mpi"))]
fn among_ranks(
    _: DeviceName,
    _: Option<PathBuf>,
    _: impl FnOnce(Arc<dyn Communicator>, Device) -> Result<()>,
) -> Result<()> {
    Err(crate::report::Error::NoMpi)
}

#[cfg(feature = "mpi")]
use with_mpi::among_ranks;

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::env;
    use std::io::Write;
    use std::path::PathBuf;
    use std::process::exit;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use aca_models::communicator::{Communicator, Mpi, together};
    use candle_core::Device;

    use crate::args::DeviceName;
    use crate::report::{self, Error, Result};

    pub fn among_ranks(
        device: DeviceName,
        resume: Option<PathBuf>,
        work: impl FnOnce(Arc<dyn Communicator>, Device) -> Result<()>,
    ) -> Result<()> {
        let mpi = Arc::new(Mpi::start()?);
        let ended = Arc::new(AtomicBool::new(false));
        end_on_signal(mpi.rank() == 0, resume, ended.clone())?;
        let begun = together(&*mpi, device.open_number(number()).map_err(Error::from));
        let worked = begun.and_then(|device| work(ranks(&mpi, &device)?, device));
        let Err(error) = worked else {
            // From here on a signal has nothing to say: mpirun tidies up.
            ended.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let shared = is_shared(&error);
        if mpi.rank() == 0 || !shared {
            report::failure(&error);
        }
        ended.store(true, Ordering::Relaxed);
        if !shared {
            mpi.abort();
        }
        // Waits for the others: the first to end with an error would end them before they speak.
        drop(mpi);
        exit(1)
    }

    /// The ranks as those that talk on this device.
    fn ranks(mpi: &Arc<Mpi>, device: &Device) -> Result<Arc<dyn Communicator>> {
        #[cfg(feature = "nccl")]
        if device.is_cuda() {
            let ranks = aca_models::communicator::Nccl::join(mpi.clone(), device)?;
            return Ok(Arc::new(ranks));
        }
        match device.is_cuda() && mpi.size() > 1 {
            true => together(&**mpi, Err(Error::NoNccl)),
            false => Ok(mpi.clone()),
        }
    }

    /// Number of this process among those of its machine, as OpenMPI or Slurm tells.
    fn number() -> usize {
        let told = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"];
        told.iter().find_map(|name| env::var(name).ok()?.parse().ok()).unwrap_or(0)
    }

    /// Whether all ranks end with this error.
    fn is_shared(error: &Error) -> bool {
        matches!(error, Error::Models(aca_models::Error::Ranks(error)) if error.is_shared())
    }

    /// Ends the process at a signal: mpirun sends one to all when a rank has died, and a little later
    /// kills them, while they wait for a message that does not come.
    fn end_on_signal(leads: bool, resume: Option<PathBuf>, ended: Arc<AtomicBool>) -> Result<()> {
        ctrlc::set_handler(move || {
            if leads && !ended.load(Ordering::Relaxed) {
                let hint = match resume.as_ref().filter(|path| path.exists()) {
                    Some(path) => format!("; go on with --resume {}", path.display()),
                    None => String::new(),
                };
                let what = "another rank has failed, or the run was stopped from outside";
                let _ = writeln!(std::io::stderr(), "error: {what}{hint}");
            }
            exit(1);
        })?;
        Ok(())
    }
}
