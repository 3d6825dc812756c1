//! Memory that the threads of a block share, with a look-out for races.

/// Shared memory, and who touched each byte of it since the last barrier.
pub struct Shared {
    bytes: Vec<u8>,
    touched: Vec<Touched>,
    /// Barriers so far, from 1.
    epoch: u32,
}

/// The last store and the last loads, as threads and epochs; 0 is never.
#[derive(Clone, Copy, Default)]
struct Touched {
    writer: usize,
    written: u32,
    reader: usize,
    read: u32,
    readers: bool,
}

impl Shared {
    pub fn new(size: usize) -> Self {
        // What nothing wrote looks like NaN.
        Self { bytes: vec![0xff; size], touched: vec![Touched::default(); size], epoch: 1 }
    }

    /// All threads have met.
    pub fn barrier(&mut self) {
        self.epoch += 1;
    }

    /// Where a thread loads so many bytes.
    pub fn load(&mut self, at: u64, size: usize, thread: usize) -> Result<*mut u8, String> {
        let (pointer, epoch, touched) = self.range(at, size)?;
        for byte in touched {
            if byte.written == 0 {
                return Err("shared memory is read before it is written".to_owned());
            }
            if byte.written == epoch && byte.writer != thread {
                return Err(race(byte.writer, "stored"));
            }
            byte.readers = byte.read == epoch && (byte.readers || byte.reader != thread);
            (byte.reader, byte.read) = (thread, epoch);
        }
        Ok(pointer)
    }

    /// Where a thread stores so many bytes.
    pub fn store(&mut self, at: u64, size: usize, thread: usize) -> Result<*mut u8, String> {
        let (pointer, epoch, touched) = self.range(at, size)?;
        for byte in touched {
            if byte.written == epoch && byte.writer != thread {
                return Err(race(byte.writer, "stored"));
            }
            if byte.read == epoch && (byte.readers || byte.reader != thread) {
                return Err(race(byte.reader, "loaded"));
            }
            (byte.writer, byte.written) = (thread, epoch);
        }
        Ok(pointer)
    }

    /// Where a thread changes so many bytes at once.
    pub fn atomic(&mut self, at: u64, size: usize) -> Result<*mut u8, String> {
        Ok(self.range(at, size)?.0)
    }

    fn range(&mut self, at: u64, size: usize) -> Result<(*mut u8, u32, &mut [Touched]), String> {
        let length = self.bytes.len();
        let range = at as usize..(at as usize).saturating_add(size);
        let touched = self.touched.get_mut(range.clone());
        let touched = touched
            .ok_or_else(|| format!("offset {at} is outside {length} bytes of shared memory"))?;
        Ok((self.bytes[range].as_mut_ptr(), self.epoch, touched))
    }
}

fn race(thread: usize, did: &str) -> String {
    format!("race: thread {thread} {did} there since the last barrier")
}
