//! Modules of PTX, the text that NVIDIA's compilers make of kernels.

use std::collections::HashMap;

use crate::reader::{Reader, number, strip, variable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    Pred,
    /// Bits, unsigned and signed integers of so many.
    B(u8),
    U(u8),
    S(u8),
    F16,
    Bf16,
    F32,
    F64,
}

impl Ty {
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "pred" => return Some(Self::Pred),
            "f16" => return Some(Self::F16),
            "bf16" => return Some(Self::Bf16),
            "f32" => return Some(Self::F32),
            "f64" => return Some(Self::F64),
            _ => {}
        }
        let bits = word.get(1..)?.parse().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
        match &word[..1] {
            "b" => Some(Self::B(bits)),
            "u" => Some(Self::U(bits)),
            "s" => Some(Self::S(bits)),
            _ => None,
        }
    }

    pub fn bits(self) -> u32 {
        match self {
            Self::Pred => 1,
            Self::B(bits) | Self::U(bits) | Self::S(bits) => bits.into(),
            Self::F16 | Self::Bf16 => 16,
            Self::F32 => 32,
            Self::F64 => 64,
        }
    }

    pub fn bytes(self) -> usize {
        self.bits() as usize / 8
    }
}

/// What an instruction reads or writes; registers are numbered.
#[derive(Clone, Debug)]
pub enum Operand {
    Register(u32),
    /// The opposite of a predicate.
    Not(u32),
    Number(u64),
    /// One of `SPECIAL` in `reader.rs`.
    Special(u8),
    /// A register, if there is one, and an offset.
    Address(Option<u32>, i64),
    Vector(Vec<Operand>),
    /// Two results.
    Pair(Box<Operand>, Box<Operand>),
    Blank,
}

/// The special register of a thread's place in its warp; those before come in threes.
pub const LANE: usize = 12;

/// Where arguments of calls lie among parameters, sixteen bytes each, how many fit, and which of them is
/// the result.
pub const CALL: u64 = 1 << 61;
pub const CALLS: usize = 16;
pub const RESULT: usize = 15;

#[derive(Clone, Debug)]
pub struct Instruction {
    pub op: Op,
    pub ty: Ty,
    /// What a conversion starts from.
    pub from: Ty,
    /// What follows the operation's name, and what is called.
    pub words: Vec<String>,
    /// A predicate and what it must be.
    pub guard: Option<(u32, bool)>,
    pub operands: Vec<Operand>,
    /// Where a branch goes.
    pub target: usize,
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Param,
    Shared,
    Local,
    Global,
}

/// Comparisons; those with a `u` hold for NaN too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Nan,
    Number,
}

/// Rounding to the type's numbers, or to integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Nearest,
    Zero,
    Down,
    Up,
    ToEven,
    Truncate,
    Floor,
    Ceiling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Load(Space),
    Store(Space),
    Atomic(&'static str),
    Move,
    Address,
    Branch,
    Barrier,
    Exit,
    Call,
    Nothing,
    /// Down, up, butterfly, by index.
    Shuffle(u8),
    Compare(Compare),
    Select,
    Add(Round),
    Sub(Round),
    Mul(Round),
    MulHigh,
    MulWide,
    MulAdd,
    MulAddWide,
    Fma(Round),
    Div,
    Rem,
    Neg,
    Abs,
    Min,
    Max,
    CopySign,
    Function(&'static str),
    And,
    Or,
    Xor,
    Not,
    ShiftLeft,
    ShiftRight,
    Ones,
    LeadingZeros,
    Insert,
    /// With what rounding, and whether results are kept within 0 and 1.
    Convert(Round, bool),
}

/// A kernel.
pub struct Function {
    pub name: String,
    /// Place and size of each parameter, and the bytes of all.
    pub params: Vec<(usize, usize)>,
    pub param_bytes: usize,
    pub registers: usize,
    pub shared: usize,
    pub local: usize,
    pub code: Vec<Instruction>,
}

pub struct Module {
    text: String,
    /// Where kernels begin.
    entries: HashMap<String, usize>,
    /// Addresses of variables in global memory.
    globals: HashMap<String, u64>,
    /// Shared variables: name, bytes and alignment.
    shared: Vec<(String, usize, usize)>,
}

impl Module {
    /// Takes the text of a module; `place` gives a place to each of its global variables.
    pub fn new(text: &str, mut place: impl FnMut(&[u8]) -> u64) -> Self {
        let (mut entries, mut globals) = (HashMap::new(), HashMap::new());
        let (mut shared, mut at, mut depth) = (Vec::new(), 0, 0);
        for line in text.split_inclusive('\n') {
            let words = strip(line);
            let declared = words.trim_start_matches(".visible ").trim_start_matches(".extern ");
            if depth != 0 {
            } else if let Some((_, rest)) = words.split_once(".entry ") {
                let name = rest.split(['(', ' ']).next().unwrap_or_default();
                entries.insert(name.to_owned(), at);
            } else if let Some(rest) = declared.strip_prefix(".shared ") {
                shared.extend(variable(rest));
            } else if let Some(rest) =
                declared.strip_prefix(".global ").or(declared.strip_prefix(".const "))
            {
                globals.extend(
                    variable(rest).map(|(name, bytes, _)| (name, place(&data(rest, bytes)))),
                );
            }
            depth += words.matches('{').count();
            depth -= words.matches('}').count();
            at += line.len();
        }
        Self { text: text.to_owned(), entries, globals, shared }
    }

    /// Reads a kernel.
    ///
    /// # Errors
    /// When there is none of the name, or it has an instruction that is not known.
    pub fn function(&self, name: &str) -> Result<Function, String> {
        let start = *self.entries.get(name).ok_or_else(|| format!("there is no kernel {name}"))?;
        let (head, body) = self.text[start..].split_once('{').ok_or("a kernel without a body")?;
        let mut reader = Reader::default();
        let (mut params, mut param_bytes) = (Vec::new(), 0_usize);
        let list = head.split_once('(').and_then(|(_, list)| list.split_once(')'));
        for param in list.map_or("", |(list, _)| list).split(',') {
            if let Some((name, bytes, align)) = variable(param.trim().trim_start_matches(".param"))
            {
                let at = param_bytes.next_multiple_of(align);
                reader.define(&name, at as u64);
                params.push((at, bytes));
                param_bytes = at + bytes;
            }
        }
        self.shared.iter().for_each(|variable| reader.share(variable));
        self.globals.iter().for_each(|(name, address)| reader.define(name, *address));
        let lines = |text: &str| text.matches('\n').count();
        reader.read(body, lines(&self.text[..start]) + lines(head))?;
        let name = name.to_owned();
        let Reader { shared, local, .. } = reader;
        let (code, registers) = reader.finish()?;
        Ok(Function { name, params, param_bytes, registers, shared, local, code })
    }
}

/// The bytes of a variable in global memory.
fn data(declaration: &str, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    if let Some((_, values)) = declaration.split_once('{') {
        let values: Vec<&str> = values.trim_end_matches([';', '}', ' ']).split(',').collect();
        let unit = (bytes / values.len()).clamp(1, 8);
        for (place, value) in data.chunks_mut(unit).zip(values) {
            let value = number(value.trim()).unwrap_or(0);
            place.copy_from_slice(&value.to_le_bytes()[..place.len()]);
        }
    }
    data
}
