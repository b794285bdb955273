//! A JSON report, and what tests assert of it.

use serde_json::Value;

use crate::counts::Counts;

/// One document, with what a failure message shows.
pub struct Report {
    /// The document.
    pub json: Value,
    evidence: String,
}

/// One call site of a report.
#[derive(Clone, Copy)]
pub struct Site<'r> {
    report: &'r Report,
    /// Its part of the document.
    pub json: &'r Value,
}

impl Report {
    /// Keeps a document beside the run that printed it.
    pub fn new(json: Value, evidence: String) -> Self {
        Self { json, evidence }
    }

    /// A value by its JSON pointer.
    pub fn value(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or_else(|| panic!("the report has no {pointer}; {self}"))
    }

    /// A whole number by its JSON pointer.
    pub fn number(&self, pointer: &str) -> u64 {
        let value = self.value(pointer);
        value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}, no whole number; {self}"))
    }

    /// A text by its JSON pointer.
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.value(pointer);
        value.as_str().unwrap_or_else(|| panic!("{pointer} is {value}, no text; {self}"))
    }

    /// The totals, in the form of a workload's counts.
    pub fn totals(&self) -> Counts {
        let total = |name: &str| self.number(&format!("/totals/{name}"));
        Counts {
            allocated_count: total("allocated_count"),
            allocated_bytes: total("allocated_bytes"),
            freed_count: total("freed_count"),
            freed_bytes: total("freed_bytes"),
            live_count: total("live_count"),
            live_bytes: total("live_bytes"),
        }
    }

    /// Insists that the totals are the workload's own counts, and that nothing was lost.
    pub fn assert_exact(&self, own: Counts) {
        assert!(own.allocated_count > 0, "a workload that allocates nothing proves nothing");
        assert_eq!(self.totals(), own, "report's totals (left), workload's counts (right); {self}");
        assert_eq!(self.text("/sampling/mode"), "exact", "{self}");
        self.assert_no_loss();
    }

    /// Insists that every counter of losses is zero.
    pub fn assert_no_loss(&self) {
        self.assert_no_loss_but(&[]);
    }

    /// Insists that every counter of losses but these is zero.
    pub fn assert_no_loss_but(&self, others: &[&str]) {
        let loss =
            self.value("/loss").as_object().unwrap_or_else(|| panic!("no loss section; {self}"));
        for (name, count) in loss {
            // Stacks are the suite `stacks`' subject.
            let about_stacks = name == "incomplete_stacks" || name == "truncated_stacks";
            if name == "notices" || about_stacks || others.contains(&name.as_str()) {
                continue;
            }
            assert_eq!(count.as_u64(), Some(0), "loss.{name}; {self}");
        }
    }

    /// The notices.
    pub fn notices(&self) -> Vec<&str> {
        let notices = self.value("/loss/notices").as_array();
        notices.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The sites, in the report's order.
    pub fn sites(&self) -> Vec<Site<'_>> {
        let sites = self.value("/sites").as_array();
        let sites = sites.unwrap_or_else(|| panic!("sites is no list; {self}"));
        sites.iter().map(|json| Site { report: self, json }).collect()
    }

    /// The first site.
    pub fn first_site(&self) -> Site<'_> {
        self.sites().into_iter().next().unwrap_or_else(|| panic!("no site; {self}"))
    }

    /// The only site that has this function in its leaf frame.
    pub fn site_in(&self, function: &str) -> Site<'_> {
        let mut sites: Vec<_> =
            self.sites().into_iter().filter(|site| site.function() == function).collect();
        assert_eq!(sites.len(), 1, "sites in {function}; {self}");
        sites.remove(0)
    }

    /// The leaf functions of the sites, in the report's order.
    pub fn functions(&self) -> Vec<&str> {
        self.sites().iter().map(Site::function).collect()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.evidence)
    }
}

impl<'r> Site<'r> {
    /// A whole number of the site.
    pub fn number(&self, name: &str) -> u64 {
        let value = &self.json[name];
        value.as_u64().unwrap_or_else(|| panic!("a site's {name} is {value}; {}", self.report))
    }

    /// A frame, leaf first.
    pub fn frame(&self, index: usize) -> &'r Value {
        self.json["frames"].get(index).unwrap_or_else(|| {
            panic!("a site has no frame {index}: {}; {}", self.json, self.report)
        })
    }

    /// The function of the leaf frame.
    pub fn function(&self) -> &'r str {
        self.frame(0)["function"].as_str().unwrap_or("(no function)")
    }

    /// Insists on the live blocks and bytes.
    pub fn assert_live(&self, count: u64, bytes: u64) {
        let got = (self.number("live_count"), self.number("live_bytes"));
        assert_eq!(got, (count, bytes), "live blocks and bytes of {}; {}", self.json, self.report);
        let interval = &self.json["live_bytes_ci95"];
        assert_eq!(
            interval,
            &serde_json::json!([bytes, bytes]),
            "exact has no interval; {}",
            self.report
        );
    }

    /// Insists on the function of a frame.
    pub fn assert_frame_function(&self, index: usize, function: &str) {
        let frame = self.frame(index);
        assert_eq!(frame["function"], function, "frame {index} of {}; {}", self.json, self.report);
    }

    /// Insists on the function, the end of the file's path, and the line of a frame.
    pub fn assert_frame(&self, index: usize, function: &str, file: &str, line: u64) {
        self.assert_frame_function(index, function);
        let frame = self.frame(index);
        let path = frame["file"].as_str().unwrap_or_default();
        assert!(path.ends_with(file), "file of frame {index} of {}; {}", self.json, self.report);
        assert_eq!(frame["line"], line, "line of frame {index} of {}; {}", self.json, self.report);
    }
}
