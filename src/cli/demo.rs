//! `dripwheel demo`: server and sandbox in one process, on embedded defaults.
//!
//! Everything it makes is below its data folder: the configuration, the database, the phones of
//! the sandbox, the API key, and the clock's origin, so that a second start goes on where the
//! first one stopped, in the same time.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rust_embed::RustEmbed;

use crate::app::App;
use crate::cli::{print, sandbox, serve, telemetry};
use crate::clock::{Clock, Origin, ScaledClock, SystemClock};
use crate::config::Config;
use crate::sandbox::Sandbox;
use crate::yaml::render_all;

#[derive(clap::Args, Debug)]
pub(super) struct DemoArgs {
    /// Seconds that pass in one real second: 1440 plays 48 hours in two minutes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
    /// Folder for everything the demo keeps.
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// Directory of sequences; the shipped ones when there is none.
    #[arg(long, default_value = "sequences")]
    sequences: PathBuf,
    /// Address of the server: callbacks, API and console.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of the sandbox: the platform and its phone.
    #[arg(long, default_value = "127.0.0.1:8090")]
    phone: SocketAddr,
    /// The rules that platform and server follow: wechat-48h or wechat-2023.
    #[arg(long, default_value = "wechat-48h")]
    profile: String,
}

/// Where the origin of the demo's clock is kept, beside its database.
const CLOCK_FILE: &str = "demo-clock.json";

/// The sequences in `sequences/`, for a binary that was moved away from them.
#[derive(RustEmbed)]
#[folder = "sequences/"]
struct Shipped;

pub(super) async fn run(args: DemoArgs) -> Result<()> {
    std::fs::create_dir_all(&args.data)
        .with_context(|| format!("make the folder {}", args.data.display()))?;
    let sequences = sequences(&args)?;
    let key = api_key(&args.data.join("demo-api-key"))?;
    let config = config(&args, &sequences, &key)?;
    let clock = clock(&args)?;
    let mut platform = sandbox::settings(&config, Some(&args.profile))?;
    platform.listen = args.phone;
    platform.record_file = Some(args.data.join("demo-sent.jsonl"));
    platform.state_file = Some(args.data.join("demo-phones.json"));
    let sandbox = Sandbox::start(platform, Arc::clone(&clock)).await?;
    let metrics = telemetry::start_metrics()?;
    let mut app = App::start(&config, Arc::clone(&clock), Some(metrics)).await?;
    print(&greeting(&args, &app, sandbox.addr, &key))?;
    let ended = serve::until_stopped(&mut app).await;
    app.stop().await;
    sandbox.stop().await;
    ended
}

fn greeting(args: &DemoArgs, app: &App, phone: SocketAddr, key: &str) -> String {
    let (server, data) = (app.addr(), args.data.display());
    let speed = match args.speed {
        1 => "real time; --speed 1440 plays 48 hours in two minutes".to_owned(),
        speed => format!("{speed} times as fast as the real one"),
    };
    format!(
        "
dripwheel demo
  phone      http://{phone}/         follow, write, click, unfollow; messages appear
  console    http://{server}/         what was planned and sent, and why
  API        http://{server}/docs     authorize with the key {key}
  clock      {speed}
  data       {data}: stop with Ctrl-C, start again to go on; remove it to begin anew
"
    )
}

/// The operator's sequences, or the shipped ones written out below the data folder.
fn sequences(args: &DemoArgs) -> Result<PathBuf> {
    if args.sequences.is_dir() {
        return Ok(args.sequences.clone());
    }
    let dir = args.data.join("sequences");
    for name in Shipped::iter() {
        let file = Shipped::get(&name).ok_or_else(|| anyhow!("embedded file {name}"))?;
        let path = dir.join(name.as_ref());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, file.data).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(dir)
}

fn config(args: &DemoArgs, sequences: &Path, key: &str) -> Result<Config> {
    let database = args.data.join("demo.db");
    // Paths are written as JSON strings, which are YAML strings too.
    let quoted = |path: &Path| serde_json::to_string(&path.display().to_string());
    let console = if args.listen.ip().is_loopback() {
        "open"
    } else {
        "key"
    };
    let text = format!(
        "server:
  listen: {listen}
  console: {console}
  api_keys: [{{ name: demo, secret: {key}, scopes: [read, write] }}]
database: {{ url: {url} }}
sequences: {{ dir: {sequences} }}
accounts:
  - key: demo
    name: 绵绵茶铺
    app_id: wx0123456789abcdef
    app_secret: 0123456789abcdef0123456789abcdef
    token: demotoken
    encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG
    api_base: http://{phone}
    profile: {profile}
",
        listen = args.listen,
        phone = args.phone,
        profile = args.profile,
        url = serde_json::to_string(&format!("sqlite://{}", database.display()))?,
        sequences = quoted(sequences)?,
    );
    Config::from_text(&text, "demo configuration", &|_| None)
        .map_err(|problems| anyhow!(render_all(&problems, false)))
}

/// The demo's own API key, made at its first start and readable by its owner only.
fn api_key(path: &Path) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Ok(key) = std::fs::read_to_string(path) {
        let key = key.trim().to_owned();
        if key.len() >= 16 {
            return Ok(key);
        }
    }
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|error| anyhow!("random numbers: {error}"))?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("dw_demo_{hex}");
    let mut file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    writeln!(file, "{key}")?;
    Ok(key)
}

/// The clock that a database's own program shows: a demo's, if its origin lies beside the file.
pub(super) fn clock_of(database: &str) -> Result<Arc<dyn Clock>> {
    let Some(path) = database.strip_prefix("sqlite://").map(Path::new) else {
        return Ok(Arc::new(SystemClock));
    };
    Ok(match kept_origin(&path.with_file_name(CLOCK_FILE))? {
        Some(origin) => Arc::new(ScaledClock::new(origin)),
        None => Arc::new(SystemClock),
    })
}

/// The origin that a demo at another speed than the real one has kept.
fn kept_origin(path: &Path) -> Result<Option<Origin>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is no clock: remove it", path.display())),
        Err(_) => Ok(None),
    }
}

/// Real time at first; once a demo ran faster, its time goes on from there, since time that was
/// shown must not come again.
fn clock(args: &DemoArgs) -> Result<Arc<dyn Clock>> {
    let path = args.data.join(CLOCK_FILE);
    let kept = kept_origin(&path)?;
    let origin = match kept {
        None if args.speed == 1 => return Ok(Arc::new(SystemClock)),
        None => Origin::starting_now(args.speed),
        Some(origin) if origin.speed == args.speed => origin,
        Some(origin) => origin.at_speed(args.speed),
    };
    std::fs::write(&path, serde_json::to_string(&origin)?)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Arc::new(ScaledClock::new(origin)))
}
