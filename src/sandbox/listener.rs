//! The door to the network: accepts connections and can reset each of them on demand.
//!
//! A reset is what a dying platform does to its callers; a web framework offers none, so the
//! stream beneath it does. Small answers leave at once (`TCP_NODELAY`).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::lock;

/// Every open connection, by the caller's address.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    open: Arc<Mutex<HashMap<SocketAddr, Arc<AtomicBool>>>>,
}

impl Connections {
    /// Lets the connection end in a reset as soon as something is written to it.
    pub(super) fn reset(&self, caller: &RemoteAddr) {
        let Some(caller) = caller.as_socket_addr() else {
            return;
        };
        if let Some(is_cut) = lock(&self.open).get(caller) {
            is_cut.store(true, Ordering::Release);
        }
    }
}

/// Accepts connections and enters them in `connections`.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    addr: SocketAddr,
    connections: Connections,
}

impl Door {
    /// Listens on `addr`.
    pub(super) async fn bind(addr: SocketAddr, connections: Connections) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self {
            listener,
            addr,
            connections,
        })
    }

    /// The address with the real port.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Acceptor for Door {
    type Io = Line;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.addr.into())]
    }

    async fn accept(&mut self) -> io::Result<(Line, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, caller) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let is_cut = Arc::new(AtomicBool::new(false));
        lock(&self.connections.open).insert(caller, Arc::clone(&is_cut));
        let line = Line {
            stream,
            caller,
            is_cut,
            connections: self.connections.clone(),
        };
        Ok((
            line,
            LocalAddr(self.addr.into()),
            RemoteAddr(caller.into()),
            Scheme::HTTP,
        ))
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    caller: SocketAddr,
    is_cut: Arc<AtomicBool>,
    connections: Connections,
}

impl Line {
    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) {
            // With nothing left to linger for, closing sends RST instead of FIN.
            self.stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        lock(&self.connections.open).remove(&self.caller);
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
