//! Blocks of threads, one instruction after the other.

use crate::arithmetic::compute;
use crate::memory::Memory;
use crate::numbers::{cut, f64_of, of_f64};
use crate::ptx::{CALLS, Function, Instruction, LANE, Op, Operand, RESULT};
use crate::shared::Shared;

/// A launch, and the memory that its threads see.
pub struct Launch<'a> {
    pub function: &'a Function,
    pub params: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of shared memory beyond those that the kernel declares.
    pub shared: usize,
    /// Counted from 1.
    pub number: u32,
    /// Whether blocks and threads run from the last to the first: what depends on their order differs.
    pub backwards: bool,
    pub memory: &'a mut Memory,
}

impl Launch<'_> {
    /// Runs all blocks.
    ///
    /// # Errors
    /// What a GPU forbids, or what depends on the order of threads.
    pub fn run(mut self) -> Result<(), String> {
        let [x, y, z] = self.grid.map(u64::from);
        for i in 0..x * y * z {
            let i = if self.backwards { x * y * z - 1 - i } else { i };
            let at = [i % x, i / x % y, i / x / y].map(|at| at as u32);
            Block::new(&self, at, i).run(&mut self)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Runs,
    Waits,
    Shuffles,
    Done,
}

pub(crate) struct Thread {
    pc: usize,
    state: State,
    registers: Vec<u64>,
    pub(crate) local: Vec<u8>,
    /// Arguments and the result of a call.
    pub(crate) call: [u64; CALLS],
}

pub(crate) struct Block {
    at: [u32; 3],
    pub(crate) threads: Vec<Thread>,
    pub(crate) shared: Shared,
    /// Number of the first thread in the grid, from 1.
    pub(crate) first: u32,
}

impl Block {
    fn new(launch: &Launch<'_>, at: [u32; 3], number: u64) -> Self {
        let (count, f) = (launch.block.iter().product::<u32>(), launch.function);
        let thread = || Thread {
            pc: 0,
            state: State::Runs,
            registers: vec![0xdead_beef_dead_beef; f.registers],
            local: vec![0xff; f.local],
            call: [0; CALLS],
        };
        Self {
            at,
            threads: (0..count).map(|_| thread()).collect(),
            shared: Shared::new(f.shared + launch.shared),
            first: (number * u64::from(count)) as u32 + 1,
        }
    }

    fn run(&mut self, launch: &mut Launch<'_>) -> Result<(), String> {
        let count = self.threads.len();
        loop {
            for i in 0..count {
                let i = if launch.backwards { count - 1 - i } else { i };
                if self.threads[i].state == State::Runs {
                    self.run_thread(launch, i)?;
                }
            }
            let mut moved = false;
            for first in (0..count).step_by(32) {
                moved |= self.shuffle(launch, first)?;
            }
            if !moved && self.threads.iter().all(|thread| thread.state == State::Done) {
                return Ok(());
            }
            if !moved {
                self.barrier(launch)?;
            }
        }
    }

    /// Lets threads that wait go on; those that are done do not count.
    fn barrier(&mut self, launch: &Launch<'_>) -> Result<(), String> {
        let shuffles = |thread: &Thread| thread.state == State::Shuffles;
        if let Some(i) = self.threads.iter().position(shuffles) {
            return Err(self.wrong(launch, i, "waits for threads of its warp that never come"));
        }
        let mut at = None;
        for i in 0..self.threads.len() {
            if self.threads[i].state == State::Waits {
                let pc = self.threads[i].pc;
                if *at.get_or_insert(pc) != pc {
                    return Err(self.wrong(launch, i, "threads of a block meet at two barriers"));
                }
                self.threads[i].state = State::Runs;
                self.threads[i].pc += 1;
            }
        }
        self.shared.barrier();
        Ok(())
    }

    /// Exchanges numbers once all threads that the mask names have come to the same shuffle; returns
    /// whether they have.
    fn shuffle(&mut self, launch: &Launch<'_>, first: usize) -> Result<bool, String> {
        let last = (first + 32).min(self.threads.len());
        let mut lanes = first..last;
        let Some(one) = lanes.find(|i| self.threads[*i].state == State::Shuffles) else {
            return Ok(false);
        };
        let pc = self.threads[one].pc;
        let instruction = &launch.function.code[pc];
        let value = |i: usize, n: usize| self.value(launch, i, &instruction.operands[n]);
        let mask = value(one, 4) as u32;
        for lane in (0..32).filter(|lane| mask >> lane & 1 == 1) {
            match self.threads.get(first + lane).map(|thread| (thread.state, thread.pc)) {
                None => return Err(self.wrong(launch, one, "names lanes beyond the block")),
                Some((State::Done, _)) => {
                    return Err(self.wrong(launch, one, "names a thread that is done"));
                }
                Some((State::Shuffles, at)) if at == pc => {}
                Some(_) => return Ok(false),
            }
        }
        let mut results = Vec::new();
        for i in (first..last).filter(|i| mask >> (i - first) & 1 == 1) {
            let (from, inside) = source(instruction, i - first, [value(i, 2), value(i, 3)]);
            if mask >> from & 1 == 0 {
                return Err(self.wrong(launch, i, "reads a lane that the mask leaves out"));
            }
            results.push((i, cut(value(first + from, 1), 32), inside));
        }
        for (i, result, inside) in results {
            match &instruction.operands[0] {
                Operand::Pair(value, predicate) => {
                    self.set(i, value, result);
                    self.set(i, predicate, u64::from(inside));
                }
                value => self.set(i, value, result),
            }
            self.threads[i].pc += 1;
            self.threads[i].state = State::Runs;
        }
        Ok(true)
    }

    pub(crate) fn value(&self, launch: &Launch<'_>, i: usize, operand: &Operand) -> u64 {
        let register = |r: u32| self.threads[i].registers[r as usize];
        match operand {
            Operand::Register(r) => register(*r),
            Operand::Not(r) => u64::from(register(*r) == 0),
            Operand::Number(value) => *value,
            Operand::Special(which) => {
                let ([x, y, _], i) = (launch.block, i as u32);
                let all = [[i % x, i / x % y, i / x / y], launch.block, self.at, launch.grid];
                let which = usize::from(*which);
                u64::from(if which == LANE { i % 32 } else { all[which / 3][which % 3] })
            }
            Operand::Address(base, offset) => base.map_or(0, register).wrapping_add(*offset as u64),
            Operand::Vector(_) | Operand::Pair(..) | Operand::Blank => 0,
        }
    }

    pub(crate) fn set(&mut self, i: usize, operand: &Operand, value: u64) {
        match operand {
            Operand::Register(r) => self.threads[i].registers[*r as usize] = value,
            // Of a comparison: the second is its opposite.
            Operand::Pair(a, b) => {
                self.set(i, a, value);
                self.set(i, b, u64::from(value == 0));
            }
            _ => {}
        }
    }

    /// Runs a thread until it waits for others or is done.
    fn run_thread(&mut self, launch: &mut Launch<'_>, i: usize) -> Result<(), String> {
        loop {
            let instruction = &launch.function.code[self.threads[i].pc];
            let skipped = instruction.guard.is_some_and(|(guard, wanted)| {
                (self.threads[i].registers[guard as usize] != 0) != wanted
            });
            if skipped {
                self.threads[i].pc += 1;
                continue;
            }
            let stops = match instruction.op {
                Op::Branch => {
                    self.threads[i].pc = instruction.target;
                    continue;
                }
                Op::Exit => Some(State::Done),
                Op::Barrier => Some(State::Waits),
                Op::Shuffle(_) => Some(State::Shuffles),
                _ => None,
            };
            if let Some(state) = stops {
                self.threads[i].state = state;
                return Ok(());
            }
            self.step(launch, i, instruction).map_err(|what| self.wrong(launch, i, &what))?;
            self.threads[i].pc += 1;
        }
    }

    fn step(
        &mut self,
        launch: &mut Launch<'_>,
        i: usize,
        instruction: &Instruction,
    ) -> Result<(), String> {
        let operands = &instruction.operands;
        match (instruction.op, operands.as_slice()) {
            (Op::Nothing, _) => {}
            (Op::Load(_) | Op::Store(_), _) => self.touch(launch, i, instruction)?,
            (Op::Atomic(_), _) => self.atomic(launch, i, instruction)?,
            (Op::Call, _) => self.call(i, instruction)?,
            (Op::Move, [Operand::Vector(parts), whole]) => {
                let bits = instruction.ty.bits() / parts.len() as u32;
                let whole = self.value(launch, i, whole);
                for (n, part) in (0..).zip(parts) {
                    self.set(i, part, cut(whole >> (n * bits), bits));
                }
            }
            (Op::Move, [whole, Operand::Vector(parts)]) => {
                let bits = instruction.ty.bits() / parts.len() as u32;
                let part = |(n, part)| cut(self.value(launch, i, part), bits) << (n as u32 * bits);
                let joined = parts.iter().enumerate().map(part).fold(0, |all, part| all | part);
                self.set(i, whole, joined);
            }
            (_, [to, from @ ..]) => {
                let mut numbers = [0; 4];
                for (number, operand) in numbers.iter_mut().zip(from) {
                    *number = self.value(launch, i, operand);
                }
                let result = compute(instruction, numbers).ok_or("is not known here")?;
                self.set(i, to, result);
            }
            _ => return Err("is not known here".to_owned()),
        }
        Ok(())
    }

    /// Candle's kernels call powers, and functions that say which assertion failed.
    fn call(&mut self, i: usize, instruction: &Instruction) -> Result<(), String> {
        if !instruction.words.iter().any(|word| word.contains("__internal_accurate_pow")) {
            return Err("an assertion fails, or a function is not known here".to_owned());
        }
        let call = &mut self.threads[i].call;
        call[RESULT] = of_f64(f64_of(call[0]).powf(f64_of(call[1])));
        Ok(())
    }

    fn wrong(&self, launch: &Launch<'_>, thread: usize, what: &str) -> String {
        let Function { name, code, .. } = launch.function;
        let Instruction { line, text, .. } = &code[self.threads[thread].pc];
        let (at, grid, block) = (self.at, launch.grid, launch.block);
        format!(
            "{name}, block {at:?} of {grid:?}, thread {thread} of {block:?}, line {line} of its PTX, \
             `{text}`: {what}"
        )
    }
}

/// The lane that a shuffle reads, or the lane's own where that lies outside its segment.
fn source(instruction: &Instruction, lane: usize, [b, c]: [u64; 2]) -> (usize, bool) {
    let (lane, b, c) = (lane as i64, b as i64, c as i64);
    let (segment, clamp) = (c >> 8 & 31, c & 31);
    let (smallest, largest) = (lane & segment, lane & segment | clamp & !segment & 31);
    let (from, inside) = match instruction.op {
        Op::Shuffle(0) => (lane + b, lane + b <= largest),
        Op::Shuffle(1) => (lane - b, lane - b >= largest),
        Op::Shuffle(2) => (lane ^ b, lane ^ b <= largest),
        _ => {
            let from = smallest | b & !segment & 31;
            (from, from <= largest)
        }
    };
    (if inside { from } else { lane } as usize, inside)
}
