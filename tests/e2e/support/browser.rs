//! A real browser: Chromium without a window, led over its DevTools protocol.
//!
//! All that a page asks for, and all that its console says, is kept. Where there is no Chromium,
//! [`Browser::start`] says why.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use super::http;
use super::wait::{SOON, wait_for};

/// What Chromium is called.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Colours that the reader of a page prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A browser with one page. It ends when this is dropped.
pub(crate) struct Browser {
    process: Running,
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// The addresses that were asked for.
    pub(crate) requests: Vec<String>,
    /// Errors and warnings of the console, and exceptions.
    pub(crate) problems: Vec<String>,
    _dir: TempDir,
}

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn find() -> Option<&'static str> {
    let works = |name: &&str| {
        let run = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    NAMES.into_iter().find(works)
}

impl Browser {
    /// Starts it with an empty page.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn start() -> Result<Self, String> {
        let name = find().ok_or("it is not installed (apt-get install chromium)")?;
        let dir =
            tempfile::Builder::new().prefix("trefoil-browser-").tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        let mut command = Command::new(name);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-sync", "--disable-extensions", "--remote-debugging-port=0", "--lang=en"]);
        command.arg(format!("--user-data-dir={}", dir.path().display())).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("a log file"));
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let mut process = Running(child);
        let found = wait_for("the browser listens", 2 * SOON, || {
            if let Some(status) = process.0.try_wait().expect("a child can be asked") {
                return Ok(Err(format!(
                    "{name} ended: {status}: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                )));
            }
            let text = std::fs::read_to_string(dir.path().join("DevToolsActivePort"));
            let text = text.map_err(|error| error.to_string())?;
            let port = text.lines().next().and_then(|port| port.parse::<u16>().ok()).ok_or("no port yet")?;
            page_of(SocketAddr::from(([127, 0, 0, 1], port))).map(Ok)
        });
        let (address, url) = found?;
        let stream = TcpStream::connect(address).expect("it listens");
        let (socket, _) = tungstenite::client(url, stream).expect("a page's socket");
        socket.get_ref().set_read_timeout(Some(SOON)).expect("a time-out");
        let (requests, problems) = (Vec::new(), Vec::new());
        let mut browser = Self { process, socket, last_id: 0, requests, problems, _dir: dir };
        for domain in ["Network", "Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        // A window in the background has no focus.
        browser.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        Ok(browser)
    }

    /// Calls a method of the DevTools protocol.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).expect("the browser lives");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            "Runtime.exceptionThrown" => self.problems.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if params["type"] != "log" && params["type"] != "info" => {
                self.problems.push(params.to_string());
            }
            "Log.entryAdded"
                if params["entry"]["level"] == "error" || params["entry"]["level"] == "warning" =>
            {
                self.problems.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        self.try_value(expression).unwrap_or_else(|exception| panic!("{expression}: {exception}"))
    }

    /// The value of an expression in the page, or the exception that it threw.
    fn try_value(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        let exception = &result["exceptionDetails"];
        if exception.is_null() { Ok(result["result"]["value"].clone()) } else { Err(exception.to_string()) }
    }

    /// The text of the first element that is selected; empty if there is none.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let value = self.value(&format!("document.querySelector({})?.textContent ?? ''", json!(selector)));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// How many elements are selected.
    pub(crate) fn count(&mut self, selector: &str) -> u64 {
        let value = self.value(&format!("document.querySelectorAll({}).length", json!(selector)));
        value.as_u64().unwrap_or_default()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, expression: &str) {
        // While a page is loaded, what it will have is not there yet.
        wait_for(what, 2 * SOON, || match self.try_value(&format!("Boolean({expression})"))? {
            Value::Bool(true) => Ok(()),
            _ => Err(self.text("#verdict")),
        });
    }

    /// Presses and releases a key, such as `Tab` or `ArrowRight`.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let params = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Shows the page so large, in these colours.
    pub(crate) fn show(&mut self, width: u32, height: u32, scheme: Scheme) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", params);
        let scheme = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A picture of the whole page, as PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let taken =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let data = taken["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }
}

/// Where the one page of a browser is led from.
fn page_of(address: SocketAddr) -> Result<(SocketAddr, String), String> {
    let (_, body) = http::get(address, "/json/list").map_err(|error| error.to_string())?;
    let pages: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    let page = pages.as_array().and_then(|pages| pages.iter().find(|page| page["type"] == "page"));
    let url = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()).ok_or("no page yet")?;
    Ok((address, url.to_owned()))
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _closing =
            self.socket.send(Message::text(json!({ "id": 0, "method": "Browser.close" }).to_string()));
        // It ends when it has answered everything, and its helper processes with it.
        while self.socket.read().is_ok() {}
        let _ended = self.process.0.try_wait();
        for problem in self.problems.iter().filter(|_| std::thread::panicking()) {
            eprintln!("--- the browser's console: {problem}");
        }
    }
}
