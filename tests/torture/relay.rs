//! A relay of connections: what a load balancer is to callbacks, and a name to a database that moves.
//!
//! Each connection goes to the next target that takes it. It looks into nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A relay at work; dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    pub addr: SocketAddr,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of its own.
    pub async fn to(targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(targets));
        let known = Arc::clone(&targets);
        let task = tokio::spawn(async move {
            let turn = Arc::new(AtomicUsize::new(0));
            while let Ok((mut client, _)) = listener.accept().await {
                let targets = known.lock().unwrap().clone();
                let turn = Arc::clone(&turn);
                tokio::spawn(async move {
                    for _ in 0..targets.len() {
                        let next = targets[turn.fetch_add(1, Ordering::Relaxed) % targets.len()];
                        if let Ok(mut server) = TcpStream::connect(next).await {
                            copy_bidirectional(&mut client, &mut server).await.ok();
                            return;
                        }
                    }
                });
            }
        });
        Self {
            addr,
            targets,
            task,
        }
    }

    /// From now on connections go there.
    pub fn turn_to(&self, target: SocketAddr) {
        *self.targets.lock().unwrap() = vec![target];
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
