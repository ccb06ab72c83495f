//! Fetching a file that an operator named by URL, without letting the URL reach inward.
//!
//! A sequence's URL may be anybody's text, and this process may stand where it can reach databases
//! and cloud metadata. So addresses are judged when the connection is made (a name judged before
//! may resolve to another address then), literal addresses are judged too, redirects are not
//! followed, and no proxy of the environment is used. Deliberately absent: what the bytes are
//! (`filetype`) and keeping them (`media`).

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;
use url::{Host, Url};

use super::address::is_public;
use super::wire::{BodyError, builder, describe, read_at_most};

/// Largest file the platform takes as anything.
const FILE_BYTES_MAX: usize = 10 << 20;

/// Longest a whole fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Names that are inward by their meaning, whatever they resolve to; each with all its subdomains.
const INWARD_NAMES: [&str; 5] = ["localhost", "local", "internal", "home.arpa", "lan"];

/// Whether a fetch may go to private addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Public addresses, ports 80 and 443.
    Public,
    /// Anywhere: for tests and closed networks.
    Anywhere,
}

/// Why a file could not be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Error {
    /// It will not be had by trying again.
    #[error("{0}")]
    Refused(String),
    /// It may be had another time.
    #[error("{0}")]
    Failed(String),
}

/// Fetches files by URL.
pub(super) struct Fetcher {
    reach: Reach,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
    /// Built at the first fetch: it loads the system's certificates, and most accounts never need it.
    client: OnceLock<reqwest::Client>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(super) fn new(reach: Reach, connect_timeout: Duration) -> Self {
        Self::with_resolver(reach, connect_timeout, Arc::new(SystemResolver))
    }

    fn with_resolver(reach: Reach, connect_timeout: Duration, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            reach,
            connect_timeout,
            resolver,
            client: OnceLock::new(),
        }
    }

    /// The bytes behind a URL, at most 10 MB of them, within 10 seconds.
    ///
    /// # Errors
    /// `Refused` for an address that may not be fetched and an answer that is not the file;
    /// `Failed` for a network or a server that does not work now.
    pub(super) async fn fetch(&self, url: &str) -> Result<Vec<u8>, Error> {
        let url = permitted(url, self.reach).map_err(Error::Refused)?;
        let client = self.client()?;
        timeout(FETCH_TIMEOUT, async {
            let response = client.get(url).send().await.map_err(failure)?;
            match response.status() {
                StatusCode::OK => {}
                status if status.is_redirection() => {
                    let words = format!("HTTP {status}, not followed; write the final address");
                    return Err(Error::Refused(words));
                }
                status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    return Err(Error::Refused(format!("HTTP {status}")));
                }
                status => return Err(Error::Failed(format!("HTTP {status}"))),
            }
            let bytes = read_at_most(response, FILE_BYTES_MAX).await;
            bytes.map_err(|error| match error {
                BodyError::TooLong(_) => Error::Refused(error.to_string()),
                BodyError::Broken(words) => Error::Failed(words),
            })
        })
        .await
        .unwrap_or_else(|_| Err(Error::Failed("no whole file in time".into())))
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = builder(self.connect_timeout)
            .pool_max_idle_per_host(0)
            .dns_resolver(GuardedResolver {
                reach: self.reach,
                inner: Arc::clone(&self.resolver),
            })
            .build()
            .map_err(|error| Error::Failed(describe(error)))?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

fn failure(error: reqwest::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inward) = inner.downcast_ref::<Inward>() {
            return Error::Refused(inward.to_string());
        }
        cause = inner.source();
    }
    Error::Failed(describe(error))
}

/// The parsed URL, if its text alone does not forbid it.
fn permitted(url: &str, reach: Reach) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| format!("address is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("address must begin with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("address must not carry a user or password".into());
    }
    if reach == Reach::Anywhere {
        return Ok(url);
    }
    if !matches!(url.port_or_known_default(), Some(80 | 443)) {
        return Err("address must use port 80 or 443".into());
    }
    let public = match url.host() {
        Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
        Some(Host::Domain(name)) => !is_inward_name(name),
        None => false,
    };
    if public {
        Ok(url)
    } else {
        Err(Inward.to_string())
    }
}

fn is_inward_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    INWARD_NAMES.iter().any(|inward| {
        name.strip_suffix(inward)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// A host whose addresses are all private, local or reserved.
#[derive(Debug, thiserror::Error)]
#[error("address is private, local or reserved")]
struct Inward;

#[derive(Debug)]
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Lets only those addresses through to which a connection may be made.
struct GuardedResolver {
    reach: Reach,
    inner: Arc<dyn Resolve>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        let resolving = self.inner.resolve(name);
        Box::pin(async move {
            let found: Vec<_> = resolving
                .await?
                .filter(|found| reach == Reach::Anywhere || is_public(found.ip()))
                .collect();
            if found.is_empty() {
                return Err(Inward.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls_that_lead_inward_are_refused_by_their_text() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0.0.0.0/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://１２７.０.０.１/",
            "http://127.0.0.1./",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00::1]/",
            "http://[fe80::1%25eth0]/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://100.100.100.200/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://db.localhost/",
            "http://metadata.google.internal/",
            "http://printer.local/",
            "http://user@example.com/",
            "http://user:secret@example.com/",
            "http://example.com:6379/",
            "ftp://example.com/a.png",
            "file:///etc/passwd",
            "gopher://example.com/",
            "data:image/png;base64,AAAA",
            "//example.com/a.png",
            "example.com/a.png",
            "http://",
            "",
        ] {
            assert!(permitted(url, Reach::Public).is_err(), "{url}");
        }
    }

    #[test]
    fn ordinary_urls_are_permitted() {
        for url in [
            "https://example.com/a.png",
            "http://example.com:80/a.png",
            "https://图片.example/a.png",
            "http://8.8.8.8/a.png",
            "https://[2606:4700::1111]/a.png",
            "https://mylocal/a.png",
            "http://host#@evil/",
        ] {
            assert!(permitted(url, Reach::Public).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_host_that_is_judged_is_the_host_that_is_asked() {
        for url in ["http://evil\\@127.0.0.1:80/", "http://evil#@127.0.0.1/"] {
            let judged = permitted(url, Reach::Public).unwrap();
            assert_eq!(judged.host_str(), Some("evil"), "{url}");
        }
    }

    /// Names everything the canary's address, as a rebinding name server would the second time.
    struct Rebound(Vec<SocketAddr>);

    impl Resolve for Rebound {
        fn resolve(&self, _name: Name) -> Resolving {
            let found = self.0.clone();
            Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    /// A server that counts its callers and answers all of them with the same bytes.
    async fn canary(answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let callers = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&callers);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                    }
                    stream.write_all(&answer).await.ok();
                });
            }
        });
        (address, callers)
    }

    fn http(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
        [head.as_bytes(), body].concat()
    }

    fn fetcher(reach: Reach, canary: SocketAddr) -> Fetcher {
        let found = vec![
            canary,
            SocketAddr::new("::1".parse().unwrap(), canary.port()),
        ];
        Fetcher::with_resolver(reach, Duration::from_secs(2), Arc::new(Rebound(found)))
    }

    #[tokio::test]
    async fn a_name_that_resolves_inward_is_never_connected_to() {
        let (address, callers) = canary(http("200 OK", "", b"secret")).await;
        let guarded = fetcher(Reach::Public, address);
        for _ in 0..200 {
            let refused = guarded.fetch("http://rebound.example/a.png").await;
            assert_eq!(refused, Err(Error::Refused(Inward.to_string())));
        }
        assert_eq!(callers.load(Ordering::SeqCst), 0);

        // The same way stands open when the operator says so, so the count above means something.
        let open = fetcher(Reach::Anywhere, address);
        let url = format!("http://rebound.example:{}/a.png", address.port());
        assert_eq!(open.fetch(&url).await, Ok(b"secret".to_vec()));
        assert_eq!(callers.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_the_file_is_told_from_a_server_in_trouble() {
        let moved = "Location: http://169.254.169.254/\r\n";
        let long = format!("Content-Length: {}\r\n", FILE_BYTES_MAX + 1);
        for (answer, refused) in [
            (http("302 Found", moved, b""), true),
            (http("404 Not Found", "", b""), true),
            (http("200 OK", &long, b"abc"), true),
            (http("503 Busy", "", b""), false),
            (http("429 Slow", "", b""), false),
            (http("200 OK", "Content-Length: 9\r\n", b"abc"), false),
            (b"not http".to_vec(), false),
        ] {
            let words = String::from_utf8_lossy(&answer).into_owned();
            let (address, _) = canary(answer).await;
            let fetched = fetcher(Reach::Anywhere, address)
                .fetch(&format!("http://{address}/a.png?key=secret"))
                .await
                .unwrap_err();
            assert_eq!(matches!(fetched, Error::Refused(_)), refused, "{words}");
            assert!(!fetched.to_string().contains("secret"), "{fetched}");
        }
    }

    #[tokio::test]
    async fn an_endless_file_is_cut_off() {
        let endless = vec![b'x'; FILE_BYTES_MAX + 100_000];
        let (address, _) = canary(http("200 OK", "", &endless)).await;
        let fetched = fetcher(Reach::Anywhere, address)
            .fetch(&format!("http://{address}/a.png"))
            .await;
        let words = format!("longer than {FILE_BYTES_MAX} bytes");
        assert_eq!(fetched, Err(Error::Refused(words)));
    }
}
