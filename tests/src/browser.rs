//! A page in a real browser: headless Chromium, spoken to by its debugging protocol over two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::patience::{PATIENCE, await_condition};

/// Chromium takes descriptor 3 for what is said to it and 4 for what it says; the two are this process's pipes.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe \
    --no-first-run --disable-background-networking --user-data-dir=\"$0\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// A page; the browser ends when it is dropped.
pub struct Page {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// Addresses that the page asked for, other than its own.
    requests: Vec<String>,
    _profile: TempDir,
}

impl Page {
    /// Opens a file.
    pub fn open(file: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(profile.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromium does not start: {error}"));
        let input = child.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut page = Self {
            child,
            input,
            output,
            session: None,
            last: 0,
            requests: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.call("Target.attachToTarget", &attach);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        page.call("Network.enable", &json!({}));
        let size = json!({"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", &size);
        let address = format!("file://{}", file.display());
        page.call("Page.navigate", &json!({"url": address}));
        page.await_true(&format!(
            "document.readyState === 'complete' && location.href === {address:?}"
        ));
        page
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let told = self.call(
            "Runtime.evaluate",
            &json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(told.get("exceptionDetails").is_none(), "{expression}: {told}");
        told["result"]["value"].clone()
    }

    /// The value of an expression that is a text.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}")).to_owned()
    }

    /// Waits until an expression is true.
    pub fn await_true(&mut self, expression: &str) {
        let found = await_condition(PATIENCE, || {
            (self.evaluate(expression) == Value::Bool(true)).then_some(())
        });
        if found.is_none() {
            let shown = self.evaluate("document.documentElement.textContent");
            panic!("{expression} does not come true; the page shows {shown}");
        }
    }

    /// Clicks on the middle of an element, which an expression gives, as a person does.
    pub fn click(&mut self, element: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Moves the pointer to a place of an element's width, from 0 to 1, at half its height.
    pub fn point_at(&mut self, element: &str, share: f64) {
        let place = self.evaluate(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); \
             return [r.x + r.width * {share}, r.y + r.height / 2]; }})()"
        ));
        let event = json!({"type": "mouseMoved", "x": place[0], "y": place[1]});
        self.call("Input.dispatchMouseEvent", &event);
    }

    /// Types into the element that has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Chooses a file in an element, named by its selector, that is for choosing one.
    pub fn choose_file(&mut self, selector: &str, file: &Path) {
        let document = self.call("DOM.getDocument", &json!({}));
        let root = &document["root"]["nodeId"];
        let found = self.call("DOM.querySelector", &json!({"nodeId": root, "selector": selector}));
        let files = json!({"nodeId": found["nodeId"], "files": [file.display().to_string()]});
        self.call("DOM.setFileInputFiles", &files);
    }

    /// Whether the page is seen as one that prefers this colour scheme.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": feature}));
    }

    /// Addresses asked for until now: that of the page itself, and no other if it needs none.
    pub fn requests(&self) -> &[String] {
        &self.requests
    }

    /// Calls a method of the protocol and awaits its answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap_or_else(|error| {
            panic!("chromium does not listen ({error}): is it installed? apt-get install chromium")
        });
        loop {
            let heard = self.hear();
            if heard["method"] == "Network.requestWillBeSent" {
                let address = heard["params"]["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(address.to_owned());
            }
            if heard["id"] == self.last {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
        }
    }

    fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        let count = self.output.read_until(0, &mut bytes).expect("chromium can be heard");
        assert!(count > 0, "chromium has ended: is it installed? apt-get install chromium");
        bytes.pop();
        serde_json::from_slice(&bytes).expect("chromium speaks JSON")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It goes on until it is killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
