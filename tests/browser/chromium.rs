//! A headless Chromium behind a chromedriver of its own, and the few things one does with a page.
//!
//! Whatever the test does, the browser is gone afterwards. Waiting means looking again until a
//! condition holds; nothing waits for time to pass.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use poem::http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::{ParseError, Url};

const PACKAGES: &str = "install the packages chromium and chromium-driver, or run tests/run";
/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// What goes away when a page comes to rest.
const PASSING: [ErrorStatus; 4] = [
    ErrorStatus::StaleElementReference,
    ErrorStatus::NoSuchElement,
    ErrorStatus::ElementNotInteractable,
    ErrorStatus::ElementClickIntercepted,
];
const LOOK_EVERY: Duration = Duration::from_millis(40);

pub struct Chromium {
    pub tab: Tab,
    driver: Child,
    _profile: TempDir,
}

impl Chromium {
    /// Starts both programs; a missing one fails the test with what to install.
    pub async fn start() -> Self {
        let browser = ["chromium", "chromium-browser", "google-chrome"]
            .iter()
            .find_map(|name| on_path(name))
            .unwrap_or_else(|| panic!("there is no Chromium: {PACKAGES}"));
        let program = on_path("chromedriver")
            .unwrap_or_else(|| panic!("there is no chromedriver: {PACKAGES}"));
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = port_of(&mut driver).await;
        let connector = HttpConnector::new();
        let client = ClientBuilder::new(connector)
            .capabilities(capabilities(&browser, profile.path()))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            tab: Tab { client, folder },
            driver,
            _profile: profile,
        }
    }

    /// Closes the browser, then its driver.
    pub async fn close(mut self) {
        self.tab.client.close().await.ok();
        self.driver.kill().await.ok();
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The port that the driver took, from what it prints.
async fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let mut port = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        let told = line.split_once("started successfully on port ");
        port = told.and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok());
        if port.is_some() {
            break;
        }
    }
    // It must be able to go on printing.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    port.expect("chromedriver ended without telling its port")
}

fn capabilities(browser: &Path, profile: &Path) -> serde_json::Map<String, Value> {
    let profile = format!("--user-data-dir={}", profile.display());
    let capabilities = json!({
        "goog:chromeOptions": {
            "binary": browser,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--window-size=1440,940", profile,
            ],
        },
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    let Value::Object(capabilities) = capabilities else {
        unreachable!("an object is written above");
    };
    capabilities
}

#[derive(Clone)]
pub struct Tab {
    client: Client,
    folder: PathBuf,
}

impl Tab {
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn address(&self) -> Url {
        self.client.current_url().await.unwrap()
    }

    /// What an expression is in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.client.execute(&script, Vec::new()).await.unwrap()
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, expression: &str) {
        let look = async {
            while self.value(expression).await != Value::Bool(true) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, look).await.is_err() {
            self.shoot("failed").await;
            let text = self.value("document.body.innerText").await;
            panic!("it never became true: {expression}\non the page\n{text}");
        }
    }

    /// Waits until an element says something.
    pub async fn until_says(&self, css: &str, text: &str) {
        let (css, text) = (json!(css), json!(text));
        let elements = format!("[...document.querySelectorAll({css})]");
        self.until(&format!(
            "{elements}.some((e) => e.innerText.includes({text}))"
        ))
        .await;
    }

    /// Clicks as a person does: what is hidden or covered cannot be clicked.
    pub async fn click(&self, css: &str) {
        self.try_until(css, async |element| element.click().await)
            .await;
    }

    /// Writes into an input.
    pub async fn write(&self, css: &str, text: &str) {
        self.try_until(css, async |element| element.send_keys(text).await)
            .await;
    }

    /// Live parts of a page are replaced at any time, also between finding and using one.
    async fn try_until(
        &self,
        css: &str,
        act: impl AsyncFn(fantoccini::elements::Element) -> Result<(), CmdError>,
    ) {
        let attempts = async {
            loop {
                let tried = match self.client.find(Locator::Css(css)).await {
                    Ok(element) => act(element).await,
                    Err(error) => Err(error),
                };
                let Err(error) = tried else { return };
                let passes =
                    matches!(&error, CmdError::Standard(told) if PASSING.contains(&told.error));
                assert!(passes, "{css}: {error}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, attempts).await.is_err() {
            self.shoot("failed").await;
            panic!("{css} cannot be used");
        }
    }

    /// Keeps a picture of the window.
    pub async fn shoot(&self, name: &str) {
        let png = self.client.screenshot().await.unwrap();
        std::fs::write(self.folder.join(format!("{name}.png")), png).unwrap();
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the window a phone's, or the desk's again.
    pub async fn narrow(&self, narrow: bool) {
        let (name, params) = if narrow {
            let phone =
                json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
            ("Emulation.setDeviceMetricsOverride", phone)
        } else {
            ("Emulation.clearDeviceMetricsOverride", json!({}))
        };
        self.ask("goog/cdp/execute", json!({"cmd": name, "params": params}))
            .await;
    }

    /// Everything in the browser's console since the last time: errors, warnings, and what the
    /// content security policy kept out.
    pub async fn complaints(&self) -> Vec<String> {
        let lines = self.ask("se/log", json!({"type": "browser"})).await;
        let lines = lines.as_array().unwrap();
        lines.iter().map(ToString::to_string).collect()
    }

    async fn ask(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Ask { path, body }).await.unwrap()
    }
}

/// A command of chromedriver beside the standard.
#[derive(Debug)]
struct Ask {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Ask {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/{}", self.path))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
