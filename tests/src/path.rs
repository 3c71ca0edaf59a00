//! [`Path`]: a way through the network that is long, loses packets, or carries one byte at a time.
//!
//! It is a proxy that knows nothing of what it carries. To a connection a lost packet is a pause, after which all that
//! came behind it is there at once: so that is what is made here, where the kernel's own way of losing packets cannot be
//! had everywhere.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a packet carries.
const PACKET: usize = 1448;

/// How many packets are under way at most, in one direction.
const WINDOW: usize = 512;

/// After how long a lost packet is sent again: a part of this, or all of it, on top of the half.
const RETRANSMISSION: u64 = 400;

/// How a way through the network is; by default there is nothing wrong with it.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it leads nowhere before `to`"]
pub struct Path {
    delay: Duration,
    loss: u64,
    bytewise: bool,
}

impl Path {
    /// One that takes this long, each way.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// One that loses so many of a hundred packets, which are sent again.
    pub fn loss(self, percent: u64) -> Self {
        Self { loss: percent, ..self }
    }

    /// One that carries a byte at a time.
    pub fn bytewise(self) -> Self {
        Self { bytewise: true, ..self }
    }

    /// Where the way begins that leads to `server`.
    pub async fn to(self, server: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        tokio::spawn(async move {
            // the same ones are lost in each run, by the order of the connections
            for connection in 1.. {
                let (near, _) = listener.accept().await.expect("the listener works");
                tokio::spawn(async move {
                    // an end that breaks is seen by the other one
                    let _ = self.join(near, server, connection).await;
                });
            }
        });
        address
    }

    async fn join(self, near: TcpStream, server: SocketAddr, connection: u64) -> io::Result<()> {
        let far = TcpStream::connect(server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (from_near, to_near) = near.into_split();
        let (from_far, to_far) = far.into_split();
        tokio::try_join!(
            self.carry(from_near, to_far, Losses(2 * connection)),
            self.carry(from_far, to_near, Losses(2 * connection + 1)),
        )?;
        Ok(())
    }

    async fn carry(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut losses: Losses,
    ) -> io::Result<()> {
        if self.bytewise {
            return Self::drip(from, to).await;
        }
        if self.delay.is_zero() && self.loss == 0 {
            copy(&mut from, &mut to).await?;
            return to.shutdown().await;
        }
        let (leave, mut arrive) = mpsc::channel::<(Instant, Bytes)>(WINDOW);
        let sent = async move {
            loop {
                let mut packet = BytesMut::with_capacity(PACKET);
                if from.read_buf(&mut packet).await? == 0 {
                    return Ok(());
                }
                let arrives = Instant::now() + self.delay + losses.pause(self.loss);
                if leave.send((arrives, packet.freeze())).await.is_err() {
                    return Ok(());
                }
            }
        };
        let received = async move {
            // in order: what comes behind a lost packet waits for it
            while let Some((arrives, packet)) = arrive.recv().await {
                sleep_until(arrives).await;
                to.write_all(&packet).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(sent, received)?;
        Ok(())
    }

    async fn drip(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        while from.read_buf(&mut bytes).await? > 0 {
            for byte in bytes.split() {
                to.write_all(&[byte]).await?;
            }
        }
        to.shutdown().await
    }
}

/// What is lost: at random, and the same in each run (xorshift).
struct Losses(u64);

impl Losses {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// For how long the next packet is missing.
    fn pause(&mut self, percent: u64) -> Duration {
        if self.next() % 100 >= percent {
            return Duration::ZERO;
        }
        Duration::from_millis(RETRANSMISSION / 2 + self.next() % (RETRANSMISSION / 2))
    }
}
