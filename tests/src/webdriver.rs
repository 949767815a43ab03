//! A WebDriver client: as much of <https://www.w3.org/TR/webdriver2/> as the browser tests need,
//! over one plain HTTP/1.1 connection per command.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long the driver may take for one command; starting a browser on a busy machine is the slowest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// How long [`Browser::wait_for`] waits: for what a page does by itself.
const WAIT: Duration = Duration::from_secs(20);

/// Key codes of the WebDriver specification, §17.4.2.
pub mod key {
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Escape.
    pub const ESCAPE: &str = "\u{e00c}";
    /// Tab.
    pub const TAB: &str = "\u{e004}";
}

/// A running chromedriver; ends with this.
pub struct Driver {
    process: Child,
    address: SocketAddr,
}

impl Driver {
    /// Starts `chromedriver` on a free port.
    ///
    /// # Errors
    /// It is not installed (`cargo xtask setup` installs it) or does not answer.
    pub fn start() -> Result<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let process = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdout(Stdio::null())
            .spawn()
            .context("chromedriver: not installed? `cargo xtask setup` installs it")?;
        let driver = Self { process, address };
        let until = Instant::now() + WAIT;
        while Instant::now() < until {
            if driver.command("GET", "/status", &Value::Null).is_ok() {
                return Ok(driver);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("chromedriver does not answer on {address}")
    }

    /// A new headless Chromium with an empty profile in `profile`.
    ///
    /// # Errors
    /// Chromium does not start.
    pub fn browser(&self, profile: &Path, javascript: bool) -> Result<Browser<'_>> {
        let mut args = vec![format!("--user-data-dir={}", profile.display())];
        args.extend(CHROMIUM_FLAGS.iter().map(|flag| (*flag).to_owned()));
        let setting = if javascript { 1 } else { 2 };
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "args": args,
                "prefs": { "profile.managed_default_content_settings.javascript": setting },
            },
        } } });
        let session = self.command("POST", "/session", &capabilities)?;
        let id = session["sessionId"].as_str().context("the driver gave no session id")?;
        Ok(Browser { driver: self, id: id.to_owned() })
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        let text = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{text}",
            self.address,
            text.len()
        )?;
        let answer = read_body(&mut BufReader::new(stream))?;
        let value: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("{method} {path}: the driver's answer is no JSON"))?;
        let value = value["value"].clone();
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            bail!("{method} {path}: {error}: {}", value["message"].as_str().unwrap_or_default());
        }
        Ok(value)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nothing can be done about a driver that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `--no-sandbox`: the tests run as root in CI. The others keep Chromium off the network and quiet.
const CHROMIUM_FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1280,900",
];

fn read_body(reader: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the driver closed the connection");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// One browser window; closed with this.
pub struct Browser<'driver> {
    driver: &'driver Driver,
    id: String,
}

impl Browser<'_> {
    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.driver.command(method, &format!("/session/{}{path}", self.id), body)
    }

    /// Loads a page.
    ///
    /// # Errors
    /// The browser cannot.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("POST", "/url", &json!({ "url": url })).map(drop)
    }

    /// The present address.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn url(&self) -> Result<String> {
        text_of(&self.command("GET", "/url", &Value::Null)?)
    }

    /// The window's title.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn title(&self) -> Result<String> {
        text_of(&self.command("GET", "/title", &Value::Null)?)
    }

    fn find(&self, selector: &str) -> Result<String> {
        let body = json!({ "using": "css selector", "value": selector });
        let element = self.command("POST", "/element", &body)?;
        let id = element.as_object().and_then(|object| object.values().next());
        text_of(id.with_context(|| format!("no element {selector}"))?)
    }

    /// The text that a person sees of the first element that matches.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&self, selector: &str) -> Result<String> {
        let id = self.find(selector)?;
        text_of(&self.command("GET", &format!("/element/{id}/text"), &Value::Null)?)
    }

    /// How many elements match.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn count(&self, selector: &str) -> Result<usize> {
        let body = json!({ "using": "css selector", "value": selector });
        let elements = self.command("POST", "/elements", &body)?;
        Ok(elements.as_array().map_or(0, Vec::len))
    }

    /// Clicks the first element that matches.
    ///
    /// # Errors
    /// There is none, or something covers it.
    pub fn click(&self, selector: &str) -> Result<()> {
        let id = self.find(selector)?;
        self.command("POST", &format!("/element/{id}/click"), &json!({})).map(drop)
    }

    /// Types into the first element that matches.
    ///
    /// # Errors
    /// There is none, or it takes no text.
    pub fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let id = self.find(selector)?;
        let body = json!({ "text": text });
        self.command("POST", &format!("/element/{id}/value"), &body).map(drop)
    }

    /// Presses keys one after the other, wherever the focus is.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn press(&self, keys: &str) -> Result<()> {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.command("POST", "/actions", &body).map(drop)
    }

    /// Runs a script in the page and returns its value.
    ///
    /// # Errors
    /// It throws.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Sets the window's size in CSS pixels.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let body = json!({ "width": width, "height": height });
        self.command("POST", "/window/rect", &body).map(drop)
    }

    /// Emulates a colour scheme, `light` or `dark` (Chromium's own command).
    ///
    /// # Errors
    /// The browser is gone.
    pub fn prefer_colours(&self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let body = json!({
            "cmd": "Emulation.setEmulatedMedia", "params": { "features": features },
        });
        self.command("POST", "/goog/cdp/execute", &body).map(drop)
    }

    /// What the browser's console has said since the last call: errors, warnings, CSP violations.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn console(&self) -> Result<Vec<String>> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "browser" }))?;
        let line = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        Ok(entries.as_array().map(|entries| entries.iter().map(line).collect()).unwrap_or_default())
    }

    /// Writes a picture of the whole page to a PNG file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let body = json!({ "cmd": "Page.captureScreenshot", "params": params });
        let answer = self.command("POST", "/goog/cdp/execute", &body)?;
        let png = base64(answer["data"].as_str().context("the browser gave no picture")?)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, png).with_context(|| path.display().to_string())
    }

    /// Waits until `condition` is true, as a page may take a moment to show something.
    ///
    /// # Errors
    /// It did not become true in time; names `what`.
    pub fn wait_for(
        &self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<Duration> {
        let start = Instant::now();
        while start.elapsed() < WAIT {
            // An element may vanish between two commands; that is not yet a failure.
            if condition(self).unwrap_or(false) {
                return Ok(start.elapsed());
            }
            sleep(Duration::from_millis(10));
        }
        bail!("waited {WAIT:?} in vain for: {what}; the page is {:?}", self.url()?)
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // The driver ends its browsers anyway when it ends.
        let _ = self.command("DELETE", "", &Value::Null);
    }
}

fn text_of(value: &Value) -> Result<String> {
    Ok(value.as_str().context("the driver's answer is no text")?.to_owned())
}

fn base64(text: &str) -> Result<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0u32);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("not base64: byte {byte}"),
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits & 0xff) as u8);
        }
    }
    Ok(out)
}
