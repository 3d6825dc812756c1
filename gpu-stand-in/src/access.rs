//! Loads, stores and atomic operations of a block's threads.

use crate::block::{Block, Launch};
use crate::memory::Access;
use crate::numbers::{cut, f32_of, f64_of, of_f32, of_f64, signed};
use crate::ptx::{CALL, Instruction, Op, Operand, Space, Ty};

impl Block {
    /// Loads or stores one element, or several side by side.
    pub(crate) fn touch(
        &mut self,
        launch: &mut Launch<'_>,
        i: usize,
        instruction: &Instruction,
    ) -> Result<(), String> {
        let (load, space) = match instruction.op {
            Op::Load(space) => (true, space),
            Op::Store(space) => (false, space),
            _ => return Err("is no load".to_owned()),
        };
        let [first, second] = &instruction.operands[..] else {
            return Err("has not two operands".to_owned());
        };
        let (data, address) = if load { (first, second) } else { (second, first) };
        let parts = match data {
            Operand::Vector(parts) => parts.as_slice(),
            part => std::slice::from_ref(part),
        };
        let size = instruction.ty.bytes();
        let address = self.value(launch, i, address);
        check_alignment(address, size * parts.len())?;
        for (n, part) in parts.iter().enumerate() {
            let place = self.place(launch, i, address + (n * size) as u64, (space, size, load))?;
            // SAFETY: `place` found so many bytes there.
            unsafe {
                if load {
                    let value = read(place, size);
                    let value = match instruction.ty {
                        Ty::S(bits) => signed(value, bits.into()) as u64,
                        _ => value,
                    };
                    self.set(i, part, value);
                } else {
                    write(place, size, self.value(launch, i, part));
                }
            }
        }
        Ok(())
    }

    /// Where an element lies that a thread may touch.
    fn place(
        &mut self,
        launch: &mut Launch<'_>,
        i: usize,
        address: u64,
        (space, size, load): (Space, usize, bool),
    ) -> Result<*mut u8, String> {
        let range = address as usize..(address as usize).saturating_add(size);
        match space {
            Space::Param if address >= CALL => {
                let call = self.threads[i].call.get_mut((address - CALL) as usize / 16);
                Ok(std::ptr::from_mut(call.ok_or("has too many arguments")?).cast())
            }
            Space::Param if load => {
                let bytes = launch.params.get(range).ok_or("is outside the parameters")?;
                Ok(bytes.as_ptr().cast_mut())
            }
            Space::Param => Err("stores to a parameter".to_owned()),
            Space::Local => {
                let bytes = self.threads[i].local.get_mut(range);
                Ok(bytes.ok_or("is outside local memory")?.as_mut_ptr())
            }
            Space::Shared if load => self.shared.load(address, size, i),
            Space::Shared => self.shared.store(address, size, i),
            Space::Global => {
                let access = if load { Access::Load } else { Access::Store };
                launch.memory.access(
                    address,
                    size,
                    access,
                    (launch.number, self.first + i as u32),
                )?;
                Ok(address as *mut u8)
            }
        }
    }

    /// Changes one element, and hands out what it was.
    pub(crate) fn atomic(
        &mut self,
        launch: &mut Launch<'_>,
        i: usize,
        instruction: &Instruction,
    ) -> Result<(), String> {
        let Op::Atomic(kind) = instruction.op else { return Err("is not atomic".to_owned()) };
        let silent = instruction.text.contains("red.");
        let operands = &instruction.operands[usize::from(!silent)..];
        let value = |n: usize| operands.get(n).map_or(0, |x| self.value(launch, i, x));
        let (address, b, c) = (value(0), value(1), value(2));
        let (ty, size) = (instruction.ty, instruction.ty.bytes());
        check_alignment(address, size)?;
        let place = if instruction.words.iter().any(|word| word == "shared") {
            self.shared.atomic(address, size)?
        } else {
            let who = (launch.number, self.first + i as u32);
            launch.memory.access(address, size, Access::Atomic, who)?;
            address as *mut u8
        };
        // SAFETY: so many bytes lie there.
        let old = unsafe { read(place, size) };
        let pick = |smaller: bool| match ty {
            Ty::S(bits) => (signed(old, bits.into()) < signed(b, bits.into())) == smaller,
            _ => (old < b) == smaller,
        };
        let new = match (kind, ty) {
            ("add", Ty::F32) => of_f32(f32_of(old) + f32_of(b)),
            ("add", Ty::F64) => of_f64(f64_of(old) + f64_of(b)),
            ("add", _) => cut(old.wrapping_add(b), ty.bits()),
            ("min", _) => {
                if pick(true) {
                    old
                } else {
                    b
                }
            }
            ("max", _) => {
                if pick(false) {
                    old
                } else {
                    b
                }
            }
            ("exch", _) => b,
            ("cas", _) => {
                if old == b {
                    c
                } else {
                    old
                }
            }
            _ => return Err("is not known here".to_owned()),
        };
        // SAFETY: as above.
        unsafe { write(place, size, new) };
        if !silent {
            self.set(i, &instruction.operands[0], old);
        }
        Ok(())
    }
}

fn check_alignment(address: u64, bytes: usize) -> Result<(), String> {
    match address.is_multiple_of(bytes as u64) {
        true => Ok(()),
        false => Err(format!("address {address:#x} is misaligned for {bytes} bytes")),
    }
}

/// # Safety
/// At most eight bytes may be read there.
unsafe fn read(from: *const u8, size: usize) -> u64 {
    let mut bytes = [0; 8];
    unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size) };
    u64::from_le_bytes(bytes)
}

/// # Safety
/// At most eight bytes may be written there.
unsafe fn write(to: *mut u8, size: usize, value: u64) {
    unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), to, size) };
}
