//! Static probe points (USDT) by which a process's own sampler tells of its allocations.
//!
//! OpenTelemetry's contract: `otel_memory:alloc(block, size, weighted bytes)` for a sampled allocation, and
//! `otel_memory:free(block)` when it is freed. Datadog's `ddheap` has the same two. In: a module. Out: its points, with the
//! places of their arguments as kernel programs understand them.

use tracer_common::usdt::{ARGUMENTS, ArgumentPlace, NO_REGISTER, ProbePoint, kind};

use crate::target::elf::Elf;
use crate::target::notes::{Note, notes};
use crate::target::{FileOffset, Module, registers};

/// Who offers the points; the first is taken when a process has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// OpenTelemetry.
    OtelMemory,
    /// Datadog.
    DdHeap,
}

impl Provider {
    /// Its name in notes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtelMemory => "otel_memory",
            Self::DdHeap => "ddheap",
        }
    }
}

/// What a point tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// `alloc(block, size, weighted bytes)`.
    Allocation,
    /// `free(block)`.
    Release,
}

impl Tells {
    const fn arguments(self) -> usize {
        match self {
            Self::Allocation => 3,
            Self::Release => 1,
        }
    }
}

/// One point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it tells.
    pub tells: Tells,
    /// Position of its instruction in the file.
    pub offset: FileOffset,
    /// Position of its semaphore in the file.
    pub semaphore: Option<FileOffset>,
    /// Where its arguments are.
    pub row: ProbePoint,
}

/// The points of one provider in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Who offers them.
    pub provider: Provider,
    /// Those that can be attached to.
    pub points: Vec<Point>,
    /// How many cannot, and one of them in words.
    pub unusable: Option<(usize, String)>,
}

/// Most points of one provider in a module. A point stands wherever its code was inlined.
const MAX_POINTS: usize = 512;

impl Sampler {
    fn add(&mut self, note: &Note, elf: &Elf) {
        let tells = match note.name.as_str() {
            "alloc" => Tells::Allocation,
            "free" => Tells::Release,
            _ => return,
        };
        if self.points.len() < MAX_POINTS
            && let Some(point) = point(note, tells, elf)
        {
            self.points.push(point);
            return;
        }
        let before = self.unusable.take().map_or(0, |(count, _)| count);
        let Note { provider, name, arguments, .. } = note;
        let words = format!("{provider}:{name} with arguments \"{arguments}\"");
        self.unusable = Some((before + 1, words));
    }

    /// Whether any point tells this.
    pub fn tells(&self, what: Tells) -> bool {
        self.points.iter().any(|point| point.tells == what)
    }
}

/// The samplers in a module: those that tell of allocations.
pub fn samplers(module: &Module) -> Vec<Sampler> {
    let Some(file) = &module.file else { return Vec::new() };
    let notes = notes(file);
    if notes.is_empty() {
        return Vec::new();
    }
    let Ok(elf) = Elf::read(file) else { return Vec::new() };
    let of_provider = |provider: Provider| {
        let mut sampler = Sampler { provider, points: Vec::new(), unusable: None };
        let own = notes.iter().filter(|note| note.provider == provider.name());
        own.for_each(|note| sampler.add(note, &elf));
        sampler
    };
    let all = [Provider::OtelMemory, Provider::DdHeap].map(of_provider);
    all.into_iter().filter(|sampler| sampler.tells(Tells::Allocation)).collect()
}

fn point(note: &Note, tells: Tells, elf: &Elf) -> Option<Point> {
    let mut arguments = [ArgumentPlace::default(); ARGUMENTS];
    let mut words = note.arguments.split_ascii_whitespace();
    for place in arguments.iter_mut().take(tells.arguments()) {
        *place = argument(words.next()?)?;
    }
    let semaphore = match note.semaphore {
        // A semaphore that is not found would leave the point silent.
        Some(address) => Some(elf.file_offset(address)?),
        None => None,
    };
    let offset = elf.file_offset(note.address)?;
    Some(Point { tells, offset, semaphore, row: ProbePoint { arguments } })
}

/// `SIZE@OPERAND` with the operand in the assembler's words: `8@%rdi`, `-4@$5`, `8@-16(%rbp)`, `8@(%rax,%rbx,8)`.
pub(crate) fn argument(text: &str) -> Option<ArgumentPlace> {
    let (size, operand) = text.split_once('@')?;
    let size: i32 = size.parse().ok()?;
    let bytes = size.unsigned_abs();
    if ![1, 2, 4, 8].contains(&bytes) {
        return None;
    }
    let place = ArgumentPlace {
        unused_bits: 64 - 8 * bytes,
        is_signed: u32::from(size < 0),
        register_offset: NO_REGISTER,
        index_offset: NO_REGISTER,
        ..ArgumentPlace::default()
    };
    if let Some(number) = operand.strip_prefix('$') {
        return Some(ArgumentPlace { kind: kind::CONSTANT, value: number_of(number)?, ..place });
    }
    if operand.starts_with('%') {
        let register_offset = register(operand)?;
        return Some(ArgumentPlace { kind: kind::REGISTER, register_offset, ..place });
    }
    memory(operand, place)
}

/// `DISPLACEMENT(BASE,INDEX,SCALE)`; all parts but the brackets may be absent.
fn memory(operand: &str, place: ArgumentPlace) -> Option<ArgumentPlace> {
    let (displacement, rest) = operand.split_once('(')?;
    let mut parts = rest.strip_suffix(')')?.split(',').map(str::trim);
    let optional = |part: Option<&str>| match part {
        None | Some("") => Some(NO_REGISTER),
        Some(name) => register(name),
    };
    let (base, index) = (optional(parts.next())?, optional(parts.next())?);
    let scale: u32 = parts.next().map_or(Some(1), |scale| scale.parse().ok())?;
    if !scale.is_power_of_two() || scale > 8 || parts.next().is_some() {
        return None;
    }
    Some(ArgumentPlace {
        kind: kind::MEMORY,
        register_offset: base,
        index_offset: index,
        index_shift: scale.trailing_zeros(),
        value: if displacement.is_empty() { 0 } else { number_of(displacement)? },
        ..place
    })
}

fn register(name: &str) -> Option<u32> {
    registers::offset_of(name.strip_prefix('%')?)
}

/// A number in the assembler's words, as its bits.
fn number_of(text: &str) -> Option<u64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if is_negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> ArgumentPlace {
        argument(text).unwrap_or_else(|| panic!("{text} is an argument"))
    }

    #[test]
    fn arguments_are_found_in_every_place() {
        let register = place("8@%rdi");
        assert_eq!((register.kind, register.register_offset), (kind::REGISTER, 112));
        assert_eq!((register.unused_bits, register.is_signed), (0, 0));
        let narrow = place("-4@%eax");
        assert_eq!((narrow.register_offset, narrow.unused_bits, narrow.is_signed), (80, 32, 1));
        let constant = place("-4@$-7");
        assert_eq!((constant.kind, constant.value), (kind::CONSTANT, 7_u64.wrapping_neg()));
        assert_eq!(place("8@$0x200").value, 0x200);
        let memory = place("8@-24(%rbp)");
        assert_eq!((memory.kind, memory.register_offset), (kind::MEMORY, 32));
        assert_eq!((memory.index_offset, memory.value), (NO_REGISTER, 24_u64.wrapping_neg()));
        let indexed = place("8@16(%rax,%rcx,8)");
        assert_eq!(
            (indexed.register_offset, indexed.index_offset, indexed.index_shift, indexed.value),
            (80, 88, 3, 16)
        );
        assert_eq!(place("8@(,%rcx,4)").register_offset, NO_REGISTER);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "8",
            "@",
            "3@%rdi",
            "8@%xmm0",
            "8@rdi",
            "8@counter(%rip)",
            "8@(%rax",
            "8@(%rax,%rbx,3)",
            "8@$",
            "8@$x",
            "8@(%rax,%rbx,2,1)",
        ] {
            assert_eq!(argument(text), None, "{text}");
        }
    }
}
