//! Ranks that are threads of one process, so that every test of many ranks runs everywhere.

use std::{
    sync::{Arc, Barrier, Mutex},
    thread,
};

use aca_models::{Result, communicator::Communicator};
use candle_core::Tensor;

struct Shared {
    barrier: Barrier,
    places: Vec<Mutex<Vec<Tensor>>>,
}

struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

/// Runs `work` as each of so many ranks and returns what they gave, in their order.
pub fn ranks<R: Send>(size: usize, work: impl Fn(Arc<dyn Communicator>) -> R + Sync) -> Vec<R> {
    let places = (0..size).map(|_| Mutex::default()).collect();
    let shared = Arc::new(Shared { barrier: Barrier::new(size), places });
    thread::scope(|scope| {
        let start = |rank| {
            let communicator = Arc::new(Thread { rank, shared: shared.clone() });
            let work = &work;
            scope.spawn(move || work(communicator))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Thread {
    /// Shows own tensors to the others and does something with those of all.
    fn exchange(&self, tensors: &mut [Tensor], work: impl Fn(&mut Tensor, &[Tensor])) {
        *self.shared.places[self.rank].lock().unwrap() = tensors.to_vec();
        self.shared.barrier.wait();
        let all: Vec<_> =
            self.shared.places.iter().map(|place| place.lock().unwrap().clone()).collect();
        for (i, tensor) in tensors.iter_mut().enumerate() {
            work(tensor, &all.iter().map(|tensors| tensors[i].clone()).collect::<Vec<_>>());
        }
        // The others' tensors may be variables, which change once their ranks go on.
        self.shared.barrier.wait();
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.places.len()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.exchange(tensors, |tensor, all| {
            let copy = all[0].copy().unwrap();
            *tensor = all[1..].iter().fold(copy, |sum, x| (sum + x).unwrap());
        });
        Ok(())
    }

    fn broadcast(&self, tensors: &mut [Tensor], root: usize) -> Result<()> {
        // The root's own are left as they are, which the trait allows.
        let own = self.rank == root;
        self.exchange(tensors, |tensor, all| {
            if !own {
                *tensor = all[root].copy().unwrap();
            }
        });
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.shared.barrier.wait();
        Ok(())
    }
}
