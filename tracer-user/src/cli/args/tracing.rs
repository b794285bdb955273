//! The words that say what is traced, and how.

use clap::{Args, ValueEnum};

use crate::allocators::named::NamedFunction;
use crate::fault::{Fault, Status};
use crate::ledger::snapshot::Filter;
use crate::probes::features::LinkKind;
use crate::report;
use crate::trace::options::{ExactGo, GoOptions, Selection, TraceOptions};
use crate::units::{Percentage, Size, Span, UnitError};

/// Flags that say what is traced, and how.
#[derive(Debug, Args)]
pub(super) struct Tracing {
    /// Stop after this time; otherwise at Ctrl-C or when the target ends
    #[arg(short, long, value_name = "TIME", env = "OUTLIVE_DURATION")]
    duration: Option<Span>,
    /// Count only blocks at least this old
    #[arg(long, value_name = "AGE", env = "OUTLIVE_OLDER")]
    older: Option<Span>,
    /// Count only blocks of at least this size
    #[arg(long, value_name = "SIZE", env = "OUTLIVE_MIN_SIZE")]
    min_size: Option<Size>,
    /// Count only blocks of at most this size
    #[arg(long, value_name = "SIZE", env = "OUTLIVE_MAX_SIZE")]
    max_size: Option<Size>,
    /// Sample allocations, one every so many bytes on average [default: 512KiB for attach]
    #[arg(long, value_name = "SIZE", conflicts_with = "exact", env = "OUTLIVE_SAMPLE", value_parser = parse_mean)]
    sample: Option<Size>,
    /// Record every allocation [default for run]
    #[arg(long, env = "OUTLIVE_EXACT")]
    exact: bool,
    /// Slowdown of the target that is allowed: sample less, and at last detach, rather than exceed it; none allows any
    /// [default: 10% for attach, unless --exact of something else than a Go heap]
    #[arg(long, value_name = "PERCENT", env = "OUTLIVE_MAX_OVERHEAD", value_parser = parse_overhead)]
    max_overhead: Option<Overhead>,
    /// Trace children, each as a target of its own
    #[arg(long, env = "OUTLIVE_FOLLOW_FORK")]
    follow_fork: bool,
    /// Follow mmap, munmap, mremap and brk too, whoever calls them
    #[arg(long, env = "OUTLIVE_MAPPINGS")]
    mappings: bool,
    /// Hook further functions of the program: each named after the one that it works like
    #[arg(long, value_name = "LIKE=NAME,…", value_parser = NamedList::parse, env = "OUTLIVE_ALLOCATOR")]
    allocator: Vec<NamedList>,
    /// Turn on the profiler of a Go program that was linked without it, while it is traced; writes into the program
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "512KiB", env = "OUTLIVE_ENABLE_GO_PROFILING", value_parser = parse_mean)]
    enable_go_profiling: Option<Size>,
    /// Attach by this kind of link, not the best the kernel has
    #[arg(long, value_enum, value_name = "KIND", env = "OUTLIVE_FORCE_LINK")]
    force_link: Option<Link>,
    /// Size of the ring buffer between kernel and outlive
    #[arg(long, hide = true, default_value = "16MiB", env = "OUTLIVE_RING_SIZE", value_parser = parse_ring)]
    ring_size: Size,
    /// Sampled blocks that can be followed at a time
    #[arg(long, hide = true, default_value_t = 262_144, env = "OUTLIVE_LIVE_CAPACITY", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    live_capacity: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Link {
    Session,
    Multi,
    Single,
}

/// Largest sampling mean: the kernel's arithmetic holds up to there.
const MAX_MEAN_BYTES: u64 = 1 << 32;

fn parse_mean(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: UnitError| error.to_string())?;
    if (1..MAX_MEAN_BYTES).contains(&size.bytes) {
        return Ok(size);
    }
    Err("the mean must be at least 1 byte and below 4GiB; use --exact to record everything"
        .to_owned())
}

/// A value of `--max-overhead`: the slowdown allowed; `None` allows any.
#[derive(Clone, Copy, Debug)]
struct Overhead(Option<f64>);

fn parse_overhead(text: &str) -> Result<Overhead, String> {
    if text == "none" {
        return Ok(Overhead(None));
    }
    let parsed: Result<Percentage, UnitError> = text.parse();
    parsed.map(|percentage| Overhead(Some(percentage.share))).map_err(|error| error.to_string())
}

fn parse_ring(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: UnitError| error.to_string())?;
    if size.bytes.is_power_of_two() && (4096..=1 << 30).contains(&size.bytes) {
        return Ok(size);
    }
    Err("the ring buffer must be a power of two from 4KiB to 1GiB".to_owned())
}

impl Tracing {
    /// How every allocation of a Go heap is recorded, when that is asked for. It slows a program many times, so that it is limited unless told
    /// otherwise.
    pub(super) fn exact_go(&self, default_overhead: Option<f64>) -> Option<ExactGo> {
        let max_overhead = self.max_overhead.map_or(default_overhead, |Overhead(limit)| limit);
        self.exact.then_some(ExactGo { max_overhead })
    }

    /// The options of a run that records as `default` says unless told otherwise, and that may cost `default_overhead` when
    /// it samples. Fails when no block could match.
    pub(super) fn options(
        &self,
        default: Selection,
        default_overhead: Option<f64>,
        interval: Option<Span>,
        report: report::Options,
    ) -> Result<TraceOptions, Fault> {
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            return Err(Fault::new(
                Status::Usage,
                "no block can be reported",
                format!("--min-size {min} is above --max-size {max}"),
                "exchange the two, or leave one out",
            ));
        }
        let selection = match self.sample {
            Some(mean) => Selection::Poisson { mean_bytes: mean.bytes },
            None if self.exact => Selection::Exact,
            None => default,
        };
        Ok(TraceOptions {
            selection,
            max_overhead: match self.max_overhead {
                Some(Overhead(limit)) => limit,
                // Who asks for every allocation is not to be given fewer without asking for that, too.
                None if selection == Selection::Exact => None,
                None => default_overhead,
            },
            duration: self.duration.map(|span| span.duration),
            interval: interval.map(|span| span.duration),
            follow_fork: self.follow_fork,
            mappings: self.mappings,
            named_functions: self.allocator.iter().flat_map(|list| list.0.clone()).collect(),
            // Whoever says which allocations are to be recorded, or by which functions, means outlive's own probes.
            go: GoOptions {
                profiling: self.enable_go_profiling.map(|size| size.bytes),
                ..GoOptions::default()
            },
            hears_samplers: self.sample.is_none() && !self.exact && self.allocator.is_empty(),
            force_link: self.force_link.map(|link| match link {
                Link::Session => LinkKind::Session,
                Link::Multi => LinkKind::Multi,
                Link::Single => LinkKind::Single,
            }),
            ring_bytes: self.ring_size.bytes as u32,
            live_capacity: self.live_capacity,
            filter: Filter {
                older_s: self.older.map(|span| span.duration.as_secs_f64()),
                min_size_bytes: self.min_size.map(|size| size.bytes),
                max_size_bytes: self.max_size.map(|size| size.bytes),
            },
            report,
        })
    }
}

/// One value of `--allocator`.
#[derive(Clone, Debug)]
struct NamedList(Vec<NamedFunction>);

impl NamedList {
    fn parse(text: &str) -> Result<Self, String> {
        NamedFunction::parse_all(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::{Arguments, Command};
    use crate::report::Sort as SortKey;

    fn trace(words: &[&str]) -> Result<TraceOptions, String> {
        let words = ["outlive", "attach", "1"].iter().chain(words);
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Attach(attach) = arguments.command else { panic!("not attach") };
        attach.trace.options(Selection::Exact, Some(0.1)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_asked_for_is_what_is_done() {
        let options =
            trace(&["--sample", "4KiB", "--older", "2m", "-s", "age", "-n", "3"]).expect("valid");
        assert_eq!(options.selection, Selection::Poisson { mean_bytes: 4096 });
        assert_eq!(options.filter.older_s, Some(120.0));
        assert_eq!((options.report.sort, options.report.top), (SortKey::Age, 3));
        assert!(!options.hears_samplers);
        assert!(!trace(&["--allocator", "malloc=get"]).expect("valid").hears_samplers);
        assert!(trace(&[]).expect("valid").hears_samplers);
    }

    #[test]
    fn the_cost_is_limited_when_asked_and_when_sampling() {
        let limit = |words: &[&str]| trace(words).expect("valid").max_overhead;
        assert_eq!(limit(&["--sample", "4KiB"]), Some(0.1));
        assert_eq!(limit(&["--exact"]), None);
        assert_eq!(limit(&["--exact", "--max-overhead", "5%"]), Some(0.05));
        assert_eq!(limit(&["--sample", "4KiB", "--max-overhead", "none"]), None);
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for words in [
            &["--sample", "4KiB", "--exact"][..],
            &["--sample", "0"],
            &["--min-size", "2KiB", "--max-size", "1KiB"],
            &["--sample", "many"],
            &["--duration", "soon"],
            &["--ring-size", "5000"],
            &["--sort", "colour"],
            &["--max-overhead", "0%"],
            &["--max-overhead", "little"],
        ] {
            assert!(trace(words).is_err(), "{words:?}");
        }
    }
}
