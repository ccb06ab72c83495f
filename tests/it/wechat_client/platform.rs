//! A platform that says what a test scripts, byte by byte, over real sockets.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, watch};
use url::Url;

/// One request as it came.
#[derive(Clone)]
pub struct Asked {
    pub head: String,
    pub path: String,
    pub query: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the platform does about a request.
#[derive(Clone)]
pub enum Say {
    /// HTTP 200 with this body; the connection stays.
    Json(String),
    /// As `Json`, once everybody has come to the barrier.
    Together(Arc<Barrier>, String),
    /// As `Json`, after which nobody can connect any more.
    LastWords(String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// An answer that never ends, without a length.
    Endless,
    /// An answer whose bytes come too slowly.
    Drip,
    /// The connection is reset.
    Reset,
    /// Nothing, for ever.
    Hang,
}

impl Say {
    pub fn json(body: &str) -> Self {
        Self::Json(body.to_owned())
    }

    pub fn errcode(code: i64) -> Self {
        Self::Json(format!(r#"{{"errcode":{code},"errmsg":"m rid: 6-7"}}"#))
    }

    pub fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n");
        Self::Raw(format!("{head}Connection: close\r\n\r\n{body}").into_bytes())
    }
}

type Script = Arc<dyn Fn(&Asked) -> Say + Send + Sync>;

/// A scripted platform; it ends with its test's runtime.
pub struct ScriptedPlatform {
    pub base: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Set: connections are reset as soon as they stand.
    pub resets: Arc<AtomicBool>,
}

impl fmt::Debug for ScriptedPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedPlatform({})", self.base)
    }
}

impl ScriptedPlatform {
    pub async fn start(script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let platform = Self {
            base: base.parse().unwrap(),
            asked: Arc::default(),
            resets: Arc::default(),
        };
        let (asked, resets) = (Arc::clone(&platform.asked), Arc::clone(&platform.resets));
        let script: Script = Arc::new(script);
        let (open, mut closing) = watch::channel(true);
        tokio::spawn(async move {
            let open = Arc::new(open);
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = closing.wait_for(|open| !open) => break,
                };
                if resets.load(Ordering::SeqCst) {
                    stream.set_zero_linger().unwrap();
                    continue;
                }
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                tokio::spawn(serve(stream, script, asked, Arc::clone(&open)));
            }
        });
        platform
    }

    /// The requests for one path so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|a| a.path == path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    open: Arc<watch::Sender<bool>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        asked.lock().unwrap().push(request.clone());
        let body = match script(&request) {
            Say::Json(body) => body,
            Say::Together(barrier, body) => {
                barrier.wait().await;
                body
            }
            Say::LastWords(body) => {
                open.send_replace(false);
                // The accept loop drops the listener and the receiver together.
                open.closed().await;
                let last = Say::status("200 OK", "", &body);
                if let Say::Raw(bytes) = last {
                    stream.write_all(&bytes).await.ok();
                }
                return;
            }
            Say::Raw(bytes) => {
                stream.write_all(&bytes).await.ok();
                return;
            }
            Say::Endless => {
                let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                stream.write_all(head).await.ok();
                while stream.write_all(&[b' '; 8192]).await.is_ok() {}
                return;
            }
            Say::Drip => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
                stream.write_all(head).await.ok();
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return;
            }
            Say::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Say::Hang => return std::future::pending().await,
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        let answer = format!("{head} {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().unwrap())
        })
        .unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let target = head.split(' ').nth(1)?;
    let url = Url::parse("http://platform").unwrap().join(target).unwrap();
    Some(Asked {
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        head,
        body: buffer.drain(..length).collect(),
    })
}
