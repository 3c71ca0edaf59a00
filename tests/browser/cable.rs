//! [`Cable`]: a way from the browser to a server that can be cut.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::support::Example;

/// A proxy that knows nothing of what it carries; it ends when it is dropped.
pub(crate) struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

#[derive(Clone, Copy)]
struct State {
    /// What the server sends stays on its way.
    stalls: bool,
    cuts: usize,
}

impl Cable {
    /// A cable to an example.
    pub(crate) fn to(example: &Example) -> Self {
        let server: SocketAddr = example.address().parse().expect("it is an address");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, seen) = watch::channel(State { stalls: false, cuts: 0 });
        runtime.spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("the listener works");
                let seen = seen.clone();
                tokio::spawn(async move {
                    // an end that breaks is seen by the other one
                    let _ = join(near, server, seen).await;
                });
            }
        });
        Self { address, state, runtime: Some(runtime) }
    }

    /// The address of the page of the example, through the cable.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on what the server sends is on its way, and does not arrive.
    pub(crate) fn stall(&self) {
        self.state.send_modify(|state| state.stalls = true);
    }

    /// Breaks all connections; what is on its way is lost. New ones are carried again.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| *state = State { stalls: false, cuts: state.cuts + 1 });
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.runtime.take().expect("it is dropped once").shutdown_background();
    }
}

/// Carries bytes between the two ends until the cable is cut.
async fn join(near: TcpStream, server: SocketAddr, seen: watch::Receiver<State>) -> io::Result<()> {
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let up = async {
        copy(&mut from_near, &mut to_far).await?;
        to_far.shutdown().await
    };
    let mut flows = seen.clone();
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from_far.read(&mut buffer).await?;
            flows.wait_for(|state| !state.stalls).await.map_err(io::Error::other)?;
            if length == 0 {
                return to_near.shutdown().await;
            }
            to_near.write_all(&buffer[..length]).await?;
        }
    };
    let (mut cuts, before) = (seen.clone(), seen.borrow().cuts);
    tokio::select! {
        biased;
        _ = cuts.wait_for(|state| state.cuts > before) => Ok(()),
        result = async { tokio::try_join!(up, down) } => result.map(drop),
    }
}
