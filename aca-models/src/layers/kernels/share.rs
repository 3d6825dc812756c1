//! Work shared among threads.

use rayon::prelude::*;

/// Returns the results of `work` on every part, in order.
///
/// The calling thread takes a part itself where that leaves no thread of rayon's without one. Measured
/// on 2 cores: two parts of 6 us each take 7 us that way and 12 us by rayon's iterators; both take
/// 20 us more where a thread has to be woken.
pub(crate) fn share<P: Send, R: Send>(
    parts: Vec<P>,
    work: impl Fn((usize, P)) -> R + Sync + Send,
) -> Vec<R> {
    if parts.len() > rayon::current_num_threads() {
        return parts.into_par_iter().enumerate().map(work).collect();
    }
    let mut results: Vec<Option<R>> = parts.iter().map(|_| None).collect();
    let work = &work;
    rayon::in_place_scope(|scope| {
        let mut jobs = parts.into_iter().enumerate().zip(&mut results);
        let own = jobs.next();
        jobs.for_each(|(part, result)| scope.spawn(move |_| *result = Some(work(part))));
        if let Some((part, result)) = own {
            *result = Some(work(part));
        }
    });
    results.into_iter().flatten().collect()
}
