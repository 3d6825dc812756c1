//! Statements of PTX.

use std::collections::HashMap;

use crate::ptx::{CALL, Compare, Instruction, Op, Operand, RESULT, Round, Space, Ty};

/// Registers that tell a thread where it is.
const SPECIAL: [&str; 13] = [
    "%tid.x",
    "%tid.y",
    "%tid.z",
    "%ntid.x",
    "%ntid.y",
    "%ntid.z",
    "%ctaid.x",
    "%ctaid.y",
    "%ctaid.z",
    "%nctaid.x",
    "%nctaid.y",
    "%nctaid.z",
    "%laneid",
];

/// A line without its comment.
pub fn strip(line: &str) -> &str {
    line.split("//").next().unwrap_or_default().trim()
}

/// An integer, or the bits of a floating-point number.
pub fn number(word: &str) -> Option<u64> {
    let digits = word.trim_start_matches('-').trim_end_matches('U');
    let value = match digits.get(..2) {
        Some("0x" | "0f" | "0d" | "0F" | "0D") => u64::from_str_radix(&digits[2..], 16).ok()?,
        _ => digits.parse().ok()?,
    };
    Some(if word.starts_with('-') { value.wrapping_neg() } else { value })
}

/// Name, bytes and alignment of a declared variable, such as `.align 8 .b8 name[256]`.
pub fn variable(words: &str) -> Option<(String, usize, usize)> {
    let (mut align, mut size) = (1, 1);
    let mut words = words.trim_end_matches(';').split_whitespace();
    while let Some(word) = words.next() {
        if word == ".align" {
            align = words.next()?.parse().ok()?;
        } else if let Some(ty) = word.strip_prefix('.').and_then(Ty::of) {
            size = ty.bytes();
            align = align.max(size);
        } else if !word.starts_with('.') {
            let name = word.split(['[', '=']).next()?.to_owned();
            let count = word.split_once('[').and_then(|(_, rest)| rest.split(']').next());
            let count = count.map_or(1, |count| count.parse().unwrap_or(0));
            return Some((name, size * count, align));
        }
    }
    None
}

/// What has been read of a kernel.
#[derive(Default)]
pub struct Reader {
    registers: HashMap<String, u32>,
    symbols: HashMap<String, u64>,
    labels: HashMap<String, usize>,
    code: Vec<Instruction>,
    pub shared: usize,
    pub local: usize,
}

impl Reader {
    pub fn define(&mut self, name: &str, value: u64) {
        self.symbols.insert(name.to_owned(), value);
    }

    /// Gives a shared variable its place.
    pub fn share(&mut self, (name, bytes, align): &(String, usize, usize)) {
        let at = self.shared.next_multiple_of(*align);
        self.shared = at + bytes;
        self.define(name, at as u64);
    }

    /// Reads a body after its opening brace; `line` is the number of that brace's line.
    pub fn read(&mut self, body: &str, line: usize) -> Result<(), String> {
        let (mut depth, mut pending) = (1, String::new());
        for (line, words) in (line + 1..).zip(body.lines().map(strip)) {
            // Braces of vectors close on their line.
            depth += words.matches('{').count();
            depth -= words.matches('}').count();
            if depth == 0 {
                break;
            }
            let mut words = if words == "{" || words == "}" { "" } else { words };
            while let Some((label, rest)) = words.split_once(':') {
                if label.contains(char::is_whitespace) {
                    break;
                }
                self.labels.insert(label.to_owned(), self.code.len());
                words = rest.trim();
            }
            pending.push_str(words);
            pending.push(' ');
            while let Some((statement, rest)) = pending.split_once(';') {
                let statement = statement.trim().trim_start_matches(['{', '}']).trim().to_owned();
                let rest = rest.trim().trim_matches('}').to_owned();
                self.statement(&statement, line)?;
                pending = rest;
            }
        }
        Ok(())
    }

    /// The code with its branches, and the number of registers.
    pub fn finish(self) -> Result<(Vec<Instruction>, usize), String> {
        let Self { mut code, labels, registers, .. } = self;
        for branch in code.iter_mut().filter(|i| i.op == Op::Branch) {
            let label = branch.words.last().map_or("", String::as_str);
            let target = labels.get(label).ok_or_else(|| format!("there is no label {label}"))?;
            branch.target = *target;
        }
        Ok((code, registers.len()))
    }

    fn register(&mut self, name: &str) -> u32 {
        let next = self.registers.len() as u32;
        *self.registers.entry(name.to_owned()).or_insert(next)
    }

    fn statement(&mut self, text: &str, line: usize) -> Result<(), String> {
        if let Some(variable) = text.strip_prefix(".shared ").and_then(variable) {
            self.share(&variable);
        } else if let Some((name, bytes, align)) = text.strip_prefix(".local ").and_then(variable) {
            let at = self.local.next_multiple_of(align);
            self.local = at + bytes;
            self.define(&name, at as u64);
        }
        if text.is_empty() || text.starts_with('.') {
            return Ok(());
        }
        let (guard, rest) = match text.strip_prefix('@').and_then(|t| t.split_once(' ')) {
            Some((guard, rest)) => {
                let register = self.register(guard.trim_start_matches('!'));
                (Some((register, !guard.starts_with('!'))), rest.trim())
            }
            None => (None, text),
        };
        let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let parts: Vec<&str> = name.split('.').collect();
        let op = operation(&parts).ok_or_else(|| format!("line {line}: `{name}` is not known"))?;
        let mut words: Vec<String> = parts[1..].iter().map(|&word| word.to_owned()).collect();
        let operands = match op {
            Op::Branch | Op::Call => {
                words.push(arguments.trim().to_owned());
                Vec::new()
            }
            Op::Nothing => Vec::new(),
            _ => self.operands(arguments)?,
        };
        let mut types = parts[1..].iter().filter_map(|word| Ty::of(word));
        let ty = types.next().unwrap_or(Ty::B(32));
        let (from, target, text) = (types.next_back().unwrap_or(ty), 0, text.to_owned());
        self.code.push(Instruction { op, ty, from, words, guard, operands, target, text, line });
        Ok(())
    }

    fn operands(&mut self, text: &str) -> Result<Vec<Operand>, String> {
        let mut depth = 0;
        let pieces = text.split(|c| {
            depth += i32::from(matches!(c, '{' | '[')) - i32::from(matches!(c, '}' | ']'));
            c == ',' && depth == 0
        });
        let pieces: Vec<&str> = pieces.map(str::trim).filter(|piece| !piece.is_empty()).collect();
        pieces.into_iter().map(|piece| self.operand(piece)).collect()
    }

    fn operand(&mut self, word: &str) -> Result<Operand, String> {
        if let Some(inner) = word.strip_prefix('{') {
            return Ok(Operand::Vector(self.operands(inner.trim_end_matches('}'))?));
        }
        if let Some(inner) = word.strip_prefix('[') {
            return self.address(inner.trim_end_matches(']'));
        }
        if let Some((first, second)) = word.split_once('|') {
            let pair = (self.operand(first)?, self.operand(second)?);
            return Ok(Operand::Pair(Box::new(pair.0), Box::new(pair.1)));
        }
        if let Some(which) = SPECIAL.iter().position(|special| *special == word) {
            return Ok(Operand::Special(which as u8));
        }
        Ok(match number(word).or_else(|| self.symbols.get(word).copied()) {
            Some(value) => Operand::Number(value),
            None if word == "_" => Operand::Blank,
            None => match word.strip_prefix('!') {
                Some(register) => Operand::Not(self.register(register)),
                None => Operand::Register(self.register(word)),
            },
        })
    }

    fn address(&mut self, inner: &str) -> Result<Operand, String> {
        let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
        let offset = number(offset.trim()).ok_or_else(|| format!("offset {offset}"))? as i64;
        if base.starts_with('%') {
            return Ok(Operand::Address(Some(self.register(base)), offset));
        }
        // Arguments of calls and their result have no declaration of a place.
        let argument = |n: usize| CALL + 16 * n as u64;
        let symbol = number(base).or_else(|| self.symbols.get(base).copied());
        let symbol = symbol.or_else(|| base.strip_prefix("param")?.parse().ok().map(argument));
        Ok(Operand::Address(None, symbol.unwrap_or(argument(RESULT)) as i64 + offset))
    }
}

/// The operation of a name that is split at its dots.
fn operation(parts: &[&str]) -> Option<Op> {
    let has = |word: &str| parts.contains(&word);
    let spaces = [("param", Space::Param), ("shared", Space::Shared), ("local", Space::Local)];
    let space = spaces.iter().find(|(word, _)| has(word)).map_or(Space::Global, |space| space.1);
    let roundings = [
        ("rz", Round::Zero),
        ("rm", Round::Down),
        ("rp", Round::Up),
        ("rni", Round::ToEven),
        ("rzi", Round::Truncate),
        ("rmi", Round::Floor),
        ("rpi", Round::Ceiling),
    ];
    let round = roundings.iter().find(|(word, _)| has(word)).map_or(Round::Nearest, |r| r.1);
    let among = |words: &[&'static str]| words.iter().copied().find(|&word| has(word));
    // Sums of several words carry between instructions.
    if has("cc") || parts[0].ends_with('c') && ["addc", "subc", "madc"].contains(&parts[0]) {
        return None;
    }
    Some(match parts[0] {
        "ld" | "ldu" => Op::Load(space),
        "st" => Op::Store(space),
        "atom" | "red" => Op::Atomic(among(&["add", "min", "max", "exch", "cas"])?),
        "mov" => Op::Move,
        "cvta" => Op::Address,
        "bra" => Op::Branch,
        "bar" | "barrier" => Op::Barrier,
        "ret" | "exit" => Op::Exit,
        "call" | "trap" => Op::Call,
        "membar" | "fence" | "prefetch" => Op::Nothing,
        "shfl" => {
            Op::Shuffle(["down", "up", "bfly", "idx"].iter().position(|word| has(word))? as u8)
        }
        "setp" => Op::Compare(comparison(parts[1])?),
        "selp" => Op::Select,
        "add" => Op::Add(round),
        "sub" => Op::Sub(round),
        "mul" | "mad" if has("hi") => (parts[0] == "mul").then_some(Op::MulHigh)?,
        "mul" if has("wide") => Op::MulWide,
        "mul" => Op::Mul(round),
        "mad" if has("lo") => Op::MulAdd,
        "mad" if has("wide") => Op::MulAddWide,
        "fma" | "mad" => Op::Fma(round),
        "div" => Op::Div,
        "rem" => Op::Rem,
        "neg" => Op::Neg,
        "abs" => Op::Abs,
        "min" => Op::Min,
        "max" => Op::Max,
        "copysign" => Op::CopySign,
        "and" => Op::And,
        "or" => Op::Or,
        "xor" => Op::Xor,
        "not" => Op::Not,
        "shl" => Op::ShiftLeft,
        "shr" => Op::ShiftRight,
        "popc" => Op::Ones,
        "clz" => Op::LeadingZeros,
        "bfi" => Op::Insert,
        "cvt" => Op::Convert(round, has("sat")),
        _ => Op::Function(among(&["sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"])?),
    })
}

/// Comparisons of unsigned numbers have names of their own.
fn comparison(word: &str) -> Option<Compare> {
    Some(match word {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" | "lo" => Compare::Lt,
        "le" | "ls" => Compare::Le,
        "gt" | "hi" => Compare::Gt,
        "ge" | "hs" => Compare::Ge,
        "equ" => Compare::Equ,
        "neu" => Compare::Neu,
        "ltu" => Compare::Ltu,
        "leu" => Compare::Leu,
        "gtu" => Compare::Gtu,
        "geu" => Compare::Geu,
        "nan" => Compare::Nan,
        "num" => Compare::Number,
        _ => return None,
    })
}
