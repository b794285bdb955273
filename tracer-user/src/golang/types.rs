//! The type that a call site allocates: the compiler passes its description to the runtime's allocating function.
//!
//! In: the code before a return address. Out: the type's name, such as `main.Result`.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic};

use super::bytes::{i32_at, u8_at, u64_at, varint};
use super::code::GoCode;
use super::layout::TypeLayout;
use crate::target::ElfAddr;

/// Longest piece of a function that is decoded to get at a call in step with its instructions.
const MAX_CODE_BYTES: u64 = 1 << 20;
/// Instructions before the call among which the type is looked for.
const WINDOW: usize = 12;
/// Longest name of a type.
const MAX_NAME_BYTES: u64 = 1024;
/// The name begins with a `*` that the type does not have.
const EXTRA_STAR: u8 = 2;
/// Bytes of a type's head that are read.
const HEAD_BYTES: u64 = 48;

/// Where the types of a module are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeSection {
    /// The first one.
    pub start: ElfAddr,
    /// The end.
    pub end: ElfAddr,
}

/// What is known of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeFacts {
    /// Such as `main.Result`.
    pub name: String,
    /// Bytes of one.
    pub bytes: u64,
}

/// The type that the call before a return address allocates; `None` when the code does not show it.
pub fn allocated_at(
    code: &GoCode,
    section: TypeSection,
    layout: &TypeLayout,
    return_address: ElfAddr,
) -> Option<String> {
    let distance = return_address.0.checked_sub(1)?.checked_sub(code.text().0)?;
    let function = code.table().code_at(distance)?;
    let start = code.text().0.checked_add(function.start)?;
    let size = return_address.0.checked_sub(start)?;
    if size > MAX_CODE_BYTES {
        return None;
    }
    let bytes = code.image().bytes(ElfAddr(start), size)?;
    let mut addresses: Vec<Option<u64>> = Vec::new();
    let mut decoder = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.next_ip() >= return_address.0 {
            break;
        }
        if instruction.flow_control() == FlowControl::Call {
            // What was loaded before another call was for that one.
            addresses.clear();
        }
        let is_address =
            instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand();
        addresses.push(is_address.then(|| instruction.ip_rel_memory_address()));
    }
    let last = addresses.iter().rev().take(WINDOW).flatten();
    let mut types = last.filter(|at| (section.start.0..section.end.0).contains(at));
    types.find_map(|at| name(code, section, layout, ElfAddr(*at)))
}

/// The name of the type whose description is at an address.
fn name(code: &GoCode, section: TypeSection, layout: &TypeLayout, at: ElfAddr) -> Option<String> {
    facts(code, section, layout, at).map(|facts| facts.name)
}

/// The type whose description is at an address; `None` when there is none, as for types that were made while the program runs.
pub(super) fn facts(
    code: &GoCode,
    section: TypeSection,
    layout: &TypeLayout,
    at: ElfAddr,
) -> Option<TypeFacts> {
    if !(section.start..section.end).contains(&at) {
        return None;
    }
    let head = code.image().bytes(at, HEAD_BYTES)?;
    // The size is the first field in every release.
    let bytes = u64_at(&head, 0)?;
    let flags = u8_at(&head, layout.tflag)?;
    let offset = u64::try_from(i32_at(&head, layout.name)?).ok()?;
    let place = ElfAddr(section.start.0.checked_add(offset)?);
    let name = parse_name(&code.image().bytes_up_to(place, MAX_NAME_BYTES)?, flags)?;
    Some(TypeFacts { name, bytes })
}

/// A byte of flags, the length, the name.
fn parse_name(bytes: &[u8], flags: u8) -> Option<String> {
    let mut at = 1;
    let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
    let name = std::str::from_utf8(bytes.get(at..at.checked_add(length)?)?).ok()?;
    let name = if flags & EXTRA_STAR != 0 { name.strip_prefix('*').unwrap_or(name) } else { name };
    let is_name = !name.is_empty() && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nonsense_is_not() {
        assert_eq!(parse_name(b"\x01\x0c*main.Result...", 2).as_deref(), Some("main.Result"));
        assert_eq!(parse_name(b"\x01\x05uint8", 0).as_deref(), Some("uint8"));
        for bytes in
            [&b""[..], b"\x01", b"\x01\x05uint", b"\x01\x00", b"\x01\x02\x1b[", b"\x01\xff\xff"]
        {
            assert_eq!(parse_name(bytes, 0), None);
        }
    }
}
