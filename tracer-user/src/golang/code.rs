//! Names for addresses of Go code: function, file and line, inlined calls included, as the runtime itself names them.
//!
//! In: addresses of the file. Out: [`CodeFrame`]s, innermost first.

use super::bytes::i32_at;
use super::pclntab::{Form, Function, Pclntab};
use crate::target::{ElfAddr, Image};

/// Deepest nesting of inlined calls that is followed.
const MAX_INLINED: usize = 256;

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFrame {
    /// Its name with its package, as Go prints it: `main.(*Cache).get`, `main.Map[...]`.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// Line in the file.
    pub line: Option<u32>,
    /// The address, or the place of the call in the function that it is inlined into.
    pub address: ElfAddr,
    /// Inlined into the next frame.
    pub inlined: bool,
    /// Made by the compiler to call another function, with the arguments of a `go` statement for instance.
    pub wrapper: bool,
}

/// The code of one Go module.
#[derive(Debug)]
pub struct GoCode {
    table: Pclntab,
    image: Image,
    text: ElfAddr,
    functions_data: ElfAddr,
    wrapper_kind: Option<u8>,
}

impl GoCode {
    /// Puts together a module's table and where its text and its functions' data start.
    pub fn new(table: Pclntab, image: Image, text: ElfAddr, functions_data: ElfAddr) -> Self {
        let wrapper_kind = table.wrapper_kind();
        Self { table, image, text, functions_data, wrapper_kind }
    }

    /// The table of functions.
    pub fn table(&self) -> &Pclntab {
        &self.table
    }

    /// The file.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Where the module's code starts.
    pub fn text(&self) -> ElfAddr {
        self.text
    }

    /// The functions at an address, inlined ones first. Empty when it is in no Go function.
    ///
    /// For a return address, ask for the address before it: that one is in the call.
    pub fn frames(&self, address: ElfAddr) -> Vec<CodeFrame> {
        let Some((function, start)) = self.function(address) else { return Vec::new() };
        let mut frames = Vec::new();
        let mut at = start;
        while frames.len() < MAX_INLINED {
            let call = self.inlined_call(&function, at);
            let name = match call {
                Some(call) => self.table.name(call.name),
                None => self.table.name_of(&function),
            };
            let (file, line) = self.table.place(&function, at);
            frames.push(CodeFrame {
                function: name.map_or_else(|| "(unnamed)".to_owned(), |name| without_types(&name)),
                file,
                line,
                address: ElfAddr(self.text.0.wrapping_add(at)),
                inlined: call.is_some(),
                wrapper: call.is_none() && Some(function.kind) == self.wrapper_kind,
            });
            let Some(call) = call else { break };
            at = function.entry.wrapping_add_signed(i64::from(call.caller));
        }
        frames
    }

    /// The innermost function at an address.
    pub fn innermost(&self, address: ElfAddr) -> Option<CodeFrame> {
        self.frames(address).into_iter().next()
    }

    fn function(&self, address: ElfAddr) -> Option<(Function, u64)> {
        let distance = address.0.checked_sub(self.text.0)?;
        Some((self.table.function_at(distance)?, distance))
    }

    /// The call that was inlined at an address.
    fn inlined_call(&self, function: &Function, at: u64) -> Option<InlinedCall> {
        let tree = function.inline_tree()?;
        let index = self.table.inline_index(function, at)?;
        // 1.19: parent i16, funcID u8, _, file, line, func, parentPc i32. Since 1.20: funcID u8, _[3], nameOff, parentPc, startLine i32.
        let (size, name_at) = if self.table.form == Form::Go118 { (20, 12) } else { (16, 4) };
        let place = self.functions_data.0.checked_add(u64::from(tree))?;
        let place = place.checked_add(size * u64::from(index))?;
        let bytes = self.image.bytes(ElfAddr(place), size)?;
        Some(InlinedCall { name: i32_at(&bytes, name_at)?, caller: i32_at(&bytes, name_at + 4)? })
    }
}

#[derive(Clone, Copy)]
struct InlinedCall {
    name: i32,
    /// Where it was called, from the function's entry.
    caller: i32,
}

/// `main.Map[go.shape.int]` as `main.Map[...]`: what stands for type arguments in code means nothing to people.
fn without_types(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) if from < to => format!("{}[...]{}", &name[..from], &name[to + 1..]),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_arguments_are_left_out_as_the_runtime_does() {
        for (name, shown) in [
            ("main.Map[go.shape.int,go.shape.[]uint8].func1", "main.Map[...].func1"),
            ("main.(*Cache).get", "main.(*Cache).get"),
            ("main.x]odd[", "main.x]odd["),
        ] {
            assert_eq!(without_types(name), shown);
        }
    }
}
