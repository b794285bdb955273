//! The code of one module, read from its file where it is needed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::probes::flow::Code;
use crate::probes::plan::TextSegment;
use crate::target::ElfAddr;
use crate::target::elf::Elf;
use crate::target::imports::{Import, imports};
use crate::unwind::functions::FunctionRanges;

/// The code of a file.
pub struct ModuleCode<'a> {
    file: &'a File,
    segments: Vec<TextSegment>,
    // Most modules are planned without either.
    imports: OnceCell<HashMap<ElfAddr, Import>>,
    functions: OnceCell<FunctionRanges>,
}

impl<'a> ModuleCode<'a> {
    /// Of a file.
    pub fn new(file: &'a File, elf: &Elf) -> Self {
        let executable = elf.segments.iter().filter(|segment| segment.executable);
        let segments = executable.map(|segment| TextSegment {
            address: segment.address.0,
            offset: segment.file_offset.0,
            size_bytes: segment.file_size,
        });
        Self {
            file,
            segments: segments.collect(),
            imports: OnceCell::new(),
            functions: OnceCell::new(),
        }
    }

    /// Its executable segments.
    pub fn segments(&self) -> &[TextSegment] {
        &self.segments
    }
}

impl Code for ModuleCode<'_> {
    fn bytes(&self, address: ElfAddr, count: usize) -> Vec<u8> {
        let place = self.segments.iter().find_map(|text| {
            let left = text.size_bytes - address.0.checked_sub(text.address)?.min(text.size_bytes);
            Some((text.file_offset(address)?, left))
        });
        let Some((offset, left)) = place else { return Vec::new() };
        let mut bytes = vec![0; count.min(left as usize)];
        let read = self.file.read_at(&mut bytes, offset.0).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    fn end_of(&self, address: ElfAddr) -> Option<ElfAddr> {
        let functions = self.functions.get_or_init(|| FunctionRanges::read(self.file));
        functions.around(address).map(|range| range.end)
    }

    fn import(&self, slot: ElfAddr) -> Option<&Import> {
        self.imports.get_or_init(|| imports(self.file)).get(&slot)
    }
}
