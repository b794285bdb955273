//! Parsers of what the Go toolchain puts into a file, and of what a loader makes of it.

use super::file;
use super::go_memory::{OLDEST, layout};
use super::remote_image::{self, Loaded};
use crate::golang::anchors::Anchors;
use crate::golang::code::GoCode;
use crate::golang::debug_info::RuntimeDescription;
use crate::golang::hooks::RuntimeHooks;
use crate::golang::layout::Layout;
use crate::golang::moduledata::Moduledata;
use crate::golang::pclntab::Pclntab;
use crate::golang::types::{self, TypeSection};
use crate::golang::version::GoVersion;
use crate::target::{ElfAddr, Image};

/// How many places of a program are asked for.
const PLACES: u64 = 64;

/// A table of functions.
pub fn pclntab(bytes: &[u8]) {
    let Some(table) = Pclntab::parse(bytes.to_vec(), ElfAddr(0)) else { return };
    table.functions_named(&["runtime.profilealloc", "main.main"]);
    table.wrapper_kind();
    for place in places(&table) {
        table.code_at(place);
        if let Some(function) = table.function_at(place) {
            table.name_of(&function);
            table.place(&function, place);
            table.inline_index(&function, place);
        }
    }
}

/// Debug information: a byte says how many are its abbreviations, and entries follow.
pub fn debug_info(bytes: &[u8]) {
    let Some((length, sections)) = bytes.split_first() else { return };
    let Some((abbreviations, entries)) = sections.split_at_checked(usize::from(*length)) else {
        return;
    };
    let Some(description) = RuntimeDescription::parse(abbreviations, entries) else { return };
    for minor in [OLDEST, OLDEST + 80] {
        let version = GoVersion { text: String::new(), minor };
        Layout::described(&version, Some(&description)).ok();
    }
}

/// Starts of functions, and what is before the first and behind the last.
fn places(table: &Pclntab) -> Vec<u64> {
    let mut places = vec![0, u64::from(u32::MAX), u64::MAX];
    let mut at = 0;
    while let Some(code) = table.code_at(at).filter(|_| (places.len() as u64) < PLACES) {
        places.extend([code.start, code.end.saturating_sub(1)]);
        if code.end <= at {
            break;
        }
        at = code.end;
    }
    places
}

/// The file of a Go program: all that is read of it.
pub fn go_program(bytes: &[u8]) {
    let Some(image) = file(bytes).and_then(|file| Image::read(file).ok()) else { return };
    let minor = GoVersion::read(&image).map_or(OLDEST, |version| version.minor);
    RuntimeDescription::read(&image);
    let Some(layout) = layout(minor) else { return };
    let Some(text) = image.segments().iter().find(|segment| segment.executable) else { return };
    let text = text.address;
    for table in Pclntab::candidates(&image) {
        let data = table.address;
        let types = TypeSection { start: data, end: ElfAddr(data.0.saturating_add(1 << 20)) };
        let code = GoCode::new(table, image.clone(), text, data);
        Anchors::find(&code, &layout.heap);
        RuntimeHooks::find(&code).ok();
        for place in places(code.table()) {
            let address = ElfAddr(text.0.wrapping_add(place));
            code.frames(address);
            types::allocated_at(&code, types, &layout.types, address);
        }
    }
}

/// The same program in memory: its description of its module, and the variables that its code refers to.
pub fn moduledata(bytes: &[u8]) {
    let Some(image) = file(bytes).and_then(|file| Image::read(file).ok()) else { return };
    let minor = GoVersion::read(&image).map_or(OLDEST, |version| version.minor);
    let Some(layout) = layout(minor) else { return };
    let Some(loaded) = Loaded::new(&image) else { return };
    for table in Pclntab::candidates(&image) {
        let (memory, bias) = (remote_image::memory(), loaded.bias());
        Moduledata::find(memory, &image, bias, &table, &layout.moduledata).ok();
    }
}
