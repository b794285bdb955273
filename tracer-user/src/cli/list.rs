//! `outlive list`: the source of functions, with what each line holds.

use regex::{Regex, RegexBuilder};

use crate::cli::Outcome;
use crate::cli::args::{Global, List};
use crate::cli::format::Format;
use crate::cli::output::Output;
use crate::cli::report::{name, read_profile};
use crate::fault::{Fault, Status};
use crate::report::list::{self, Nothing, Question};
use crate::report::text::printable;

/// Most memory that a compiled expression takes.
const MAX_REGEX_BYTES: usize = 4 << 20;

/// Runs the command.
pub(super) fn list(arguments: &List, global: &Global) -> Result<Outcome, Fault> {
    arguments.format.require_plain("list")?;
    let regex = compiled(&arguments.regex)?;
    let profile = read_profile(&arguments.file)?;
    let file = name(&arguments.file);
    let question = Question {
        file: &file,
        regex: &arguments.regex,
        is_meant: &|function| regex.is_match(function),
        top: arguments.top(),
        source_path: &arguments.source_path,
    };
    let listing = list::list(&profile, &question).map_err(|nothing| fault(&nothing, &file))?;
    let mut output =
        Output::open(&arguments.output, arguments.force, arguments.format, global.color)?;
    let _or_reader_gone = output.print(&|format, layout| match format {
        Format::Text => list::text::render(&listing, layout),
        _ => list::json(&listing),
    })?;
    Ok(Outcome::Own(Status::Success))
}

fn compiled(pattern: &str) -> Result<Regex, Fault> {
    let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|error| {
        let text = error.to_string();
        // What is wrong stands last, below a drawing of where.
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Fault::new(
            Status::Usage,
            format!("{pattern:?} is no regular expression"),
            why,
            "put \\ before characters that mean themselves: '\\(', '\\*', '\\['",
        )
    })
}

fn fault(nothing: &Nothing, file: &str) -> Fault {
    let remedy = match nothing {
        Nothing::NoMatch { largest, .. } if largest.is_empty() => {
            "see what is in it: outlive report FILE".to_owned()
        }
        Nothing::NoMatch { largest, .. } => format!(
            "name a function that `outlive report` shows, such as {}; (?i) before a name ignores case",
            printable(&largest.join(", "))
        ),
        Nothing::NoLines(_) => "list a recording or a heap profile of a program with debug information (docs/symbols.md); folded stacks have no lines"
            .to_owned(),
    };
    Fault::new(Status::Failed, format!("cannot list {file}"), nothing.to_string(), remedy)
}
