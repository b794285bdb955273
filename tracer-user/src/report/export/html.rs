//! A page of its own: flame graph, icicle and table, to search and zoom in any browser, without a network.
//!
//! The page's parts are in `page/`; the data is put into them. It comes from the target: it cannot end the element it stands in.

use std::collections::HashMap;

use serde::Serialize;

use super::{Step, roots, steps};
use crate::report::model::TargetSection;
use crate::report::profile::{Profile, ProfileSite};
use crate::report::stacks::own_index;
use crate::report::text::printable;
use crate::report::timeline::Timeline;
use crate::units::{human_count, human_size};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(include_str!("page/timeline.js"), include_str!("page/page.js"));

/// What the script draws.
#[derive(Serialize)]
struct Data {
    title: String,
    summary: String,
    notices: Vec<String>,
    frames: Vec<Shown>,
    sites: Vec<Site>,
    timelines: Vec<Line>,
}

/// What a process held, moment by moment.
#[derive(Serialize)]
struct Line {
    process: usize,
    name: String,
    at: Vec<i64>,
    live: Vec<u64>,
    breaks: Vec<Break>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Break {
    first: usize,
    why: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
struct Shown {
    name: String,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Serialize)]
struct Site {
    /// Root first.
    stack: Vec<usize>,
    /// The frame that a person calls the site by.
    own: usize,
    live: u64,
    count: u64,
    allocated: u64,
    oldest: Option<f64>,
    process: usize,
    /// At the moments of the process's timeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<u64>,
}

pub(super) fn document(profile: &Profile) -> Vec<u8> {
    // Plain data to memory: it cannot fail.
    let json = serde_json::to_string(&data(profile)).unwrap_or_default();
    let json = json.replace('<', "\\u003c");
    let page = PAGE.replacen("/*STYLE*/", STYLE, 1).replacen("/*SCRIPT*/", SCRIPT, 1);
    page.replacen("/*DATA*/", &json, 1).into_bytes()
}

fn data(profile: &Profile) -> Data {
    let mut frames = Frames::default();
    let sites = profile.sites.iter().map(|site| frames.site(profile, site)).collect();
    let names: Vec<String> = profile.processes.iter().map(process_name).collect();
    let timelines = profile.timelines.iter();
    let timelines = timelines.map(|(process, timeline)| line(*process, &names, timeline)).collect();
    let totals = profile.totals();
    let at = profile.time().map_or_else(String::new, |at| format!(", {at}"));
    let blocks = match totals.live_count {
        0 => String::new(),
        count => format!(" in {} blocks", human_count(count as f64)),
    };
    Data {
        title: names.join(", "),
        summary: format!("live {}{blocks}{at}", human_size(totals.live_bytes as f64)),
        notices: profile.notices.clone(),
        frames: frames.list,
        sites,
        timelines,
    }
}

fn process_name(process: &TargetSection) -> String {
    match process.pid {
        0 => printable(&process.comm),
        pid => format!("{} (PID {pid})", printable(&process.comm)),
    }
}

fn line(process: usize, names: &[String], timeline: &Timeline) -> Line {
    let breaks = timeline.breaks.iter();
    Line {
        process,
        name: names.get(process).cloned().unwrap_or_default(),
        at: timeline.at_ms.clone(),
        live: timeline.live_bytes.clone(),
        breaks: breaks.map(|at| Break { first: at.first, why: at.why.clone() }).collect(),
        notes: timeline.notes.clone(),
    }
}

/// Distinct frames as they are shown.
#[derive(Default)]
struct Frames {
    list: Vec<Shown>,
    ids: HashMap<Shown, usize>,
}

impl Frames {
    fn site(&mut self, profile: &Profile, site: &ProfileSite) -> Site {
        let roots = roots(profile, site);
        let stack: Vec<usize> =
            steps(&roots, profile, site).map(|step| self.id(shown(step))).collect();
        // The stack is leaf first where the program's own frame is looked for.
        let own = stack.iter().rev().nth(own_index(profile.stack(site))).copied();
        Site {
            own: own.unwrap_or_default(),
            stack,
            live: site.amounts.live_bytes,
            count: site.amounts.live_count,
            allocated: site.amounts.allocated_bytes,
            oldest: site.oldest_age_s,
            process: site.process,
            history: site.history.clone(),
        }
    }

    fn id(&mut self, shown: Shown) -> usize {
        *self.ids.entry(shown.clone()).or_insert_with(|| {
            self.list.push(shown);
            self.list.len() - 1
        })
    }
}

fn shown(step: Step<'_>) -> Shown {
    let name = printable(step.name());
    match step {
        Step::Root(_) => Shown { name, file: None, line: None },
        Step::Frame(frame) => {
            Shown { name, file: frame.file.as_deref().map(printable), line: frame.line }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;

    #[test]
    fn the_page_needs_nothing_else_and_no_name_ends_its_data() {
        let mut report = fixture::report(None, 10);
        report.sites[0].frames[0].function = "</script><script>alert(1)//*SCRIPT*/".to_owned();
        let page = document(&Profile::of(&[report]));
        let page = String::from_utf8(page).expect("UTF-8");
        assert_eq!(page.matches("</script>").count(), 2, "those of the page itself");
        for placeholder in ["/*STYLE*/", "/*DATA*/"] {
            assert!(!page.contains(placeholder));
        }
        for reference in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(reference), "{reference}");
        }
    }
}
