//! Memory of the GPU: places of the host, with what is known of every byte.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

/// What CUDA promises of an allocation's address.
const ALIGN: usize = 256;

/// An allocation.
struct Place {
    start: u64,
    layout: Layout,
    /// Whether a byte was written.
    written: Vec<bool>,
    /// The launch and the thread that last stored at a byte; empty before any did.
    stored: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Load,
    Store,
    Atomic,
}

/// All allocations by their addresses.
#[derive(Default)]
pub struct Memory {
    places: BTreeMap<u64, Place>,
    /// Bytes allocated.
    pub used: usize,
}

impl Memory {
    pub fn allocate(&mut self, bytes: usize) -> Option<u64> {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).ok()?;
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            return None;
        }
        // What nothing wrote looks like NaN.
        // SAFETY: the allocation is of this size.
        unsafe { pointer.write_bytes(0xff, layout.size()) };
        let start = pointer as u64;
        let place = Place { start, layout, written: vec![false; bytes], stored: Vec::new() };
        self.places.insert(start, place);
        self.used += bytes;
        Some(start)
    }

    /// Frees an allocation; its address must be one.
    pub fn free(&mut self, start: u64) -> Result<(), String> {
        let place = self.places.remove(&start);
        let place = place.ok_or_else(|| format!("{start:#x} was not allocated, or was freed"))?;
        self.used -= place.written.len();
        // SAFETY: it was allocated so, and is no longer listed.
        unsafe { dealloc(start as *mut u8, place.layout) };
        Ok(())
    }

    /// The allocation around some bytes, and their place in it.
    fn place(&mut self, address: u64, bytes: usize) -> Result<(&mut Place, usize), String> {
        let place = self.places.range_mut(..=address).next_back().map(|(_, place)| place);
        let place = place.ok_or_else(|| format!("{address:#x} belongs to no allocation"))?;
        let (offset, length) = ((address - place.start) as usize, place.written.len());
        if offset + bytes > length {
            return Err(format!(
                "{bytes} bytes from offset {offset} are outside the nearest allocation, of {length}"
            ));
        }
        Ok((place, offset))
    }

    /// Marks bytes as written.
    pub fn fill(&mut self, address: u64, bytes: usize) -> Result<(), String> {
        if bytes > 0 {
            let (place, offset) = self.place(address, bytes)?;
            place.written[offset..offset + bytes].fill(true);
        }
        Ok(())
    }

    /// Asks whether bytes were written.
    pub fn check(&mut self, address: u64, bytes: usize) -> Result<(), String> {
        if bytes == 0 {
            return Ok(());
        }
        let (place, offset) = self.place(address, bytes)?;
        let unwritten = place.written[offset..offset + bytes].iter().position(|written| !written);
        match unwritten {
            Some(at) => Err(format!("offset {} is read before it is written", offset + at)),
            None => Ok(()),
        }
    }

    /// Copies bytes with what is known of them.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), String> {
        if bytes == 0 {
            return Ok(());
        }
        let (place, offset) = self.place(from, bytes)?;
        let written = place.written[offset..offset + bytes].to_vec();
        let (place, offset) = self.place(to, bytes)?;
        place.written[offset..offset + bytes].copy_from_slice(&written);
        // SAFETY: both ranges lie in allocations.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    /// Notes that a thread of a launch touches an element.
    ///
    /// # Errors
    /// When it lies outside, when nothing wrote it, and when another thread of the launch stored there.
    pub fn access(
        &mut self,
        address: u64,
        bytes: usize,
        access: Access,
        who: (u32, u32),
    ) -> Result<(), String> {
        let (place, offset) = self.place(address, bytes)?;
        let (range, length) = (offset..offset + bytes, place.written.len());
        let (launch, thread) = place.stored.get(offset).copied().unwrap_or_default();
        if access != Access::Atomic && launch == who.0 && thread != who.1 {
            return Err(format!("race: thread {thread} of the launch stored there"));
        }
        if access == Access::Store {
            place.stored.resize(length, (0, 0));
            place.stored[offset] = who;
            place.written[range].fill(true);
        } else if !place.written[range].iter().all(|written| *written) {
            return Err(format!("offset {offset} is read before it is written"));
        }
        Ok(())
    }
}
