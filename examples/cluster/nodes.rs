//! The nodes, as processes: started, killed, started again, and spoken to.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::node::{Fate, News, Push};

/// How many there are.
pub(crate) const COUNT: usize = 3;

/// The argument that makes this program a node.
pub(crate) const ROLE: &str = "node";

/// How long a node may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// What a page shows of a node.
#[derive(Clone, Default, Serialize)]
pub(crate) struct State {
    /// The URL of its WebSocket has this address; `None` while it does not run.
    address: Option<String>,
    /// Who is connected.
    users: Vec<String>,
}

/// All nodes.
pub(crate) struct Nodes {
    states: watch::Sender<Vec<State>>,
    keepers: Vec<mpsc::Sender<Order>>,
}

enum Order {
    Start,
    Kill,
    Push(Push, oneshot::Sender<Fate>),
    End(oneshot::Sender<()>),
}

/// The node has not answered: whether the message was written is unknown.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl Nodes {
    /// Starts all of them, and waits until they can be connected to.
    pub(crate) async fn start(redis: String, key: String) -> Result<Self, String> {
        let (states, mut changes) = watch::channel(vec![State::default(); COUNT]);
        let keeper = |index| {
            let (orders, received) = mpsc::channel(64);
            let keeper = Keeper { index, redis: redis.clone(), key: key.clone(), states: states.clone() };
            tokio::spawn(keeper.keep(received));
            orders
        };
        let nodes = Self { keepers: (0..COUNT).map(keeper).collect(), states };
        for index in 0..COUNT {
            nodes.order(index, Order::Start).await;
        }
        let up = changes.wait_for(|states| states.iter().all(|it| it.address.is_some()));
        match timeout(Duration::from_secs(60), up).await {
            Ok(Ok(_)) => {}
            _ => return Err("the nodes do not start; what they say is above".to_owned()),
        }
        Ok(nodes)
    }

    pub(crate) fn states(&self) -> watch::Receiver<Vec<State>> {
        self.states.subscribe()
    }

    /// Starts a node, if it does not run.
    pub(crate) async fn restart(&self, index: usize) {
        self.order(index, Order::Start).await;
    }

    /// Ends it as `kill -9` does.
    pub(crate) async fn kill(&self, index: usize) {
        self.order(index, Order::Kill).await;
    }

    /// Sends a message through a node.
    pub(crate) async fn push(&self, index: usize, push: Push) -> Result<Fate, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.order(index, Order::Push(push, answer)).await;
        answered.await.map_err(|_| NoAnswer)
    }

    /// Ends all of them: they send their clients away, and log them out.
    pub(crate) async fn end(&self) {
        let mut ends = Vec::new();
        for index in 0..COUNT {
            let (ended, end) = oneshot::channel();
            self.order(index, Order::End(ended)).await;
            ends.push(end);
        }
        for end in ends {
            let _ = end.await;
        }
    }

    async fn order(&self, index: usize, order: Order) {
        if let Some(keeper) = self.keepers.get(index) {
            // it fails when all is over
            let _ = keeper.send(order).await;
        }
    }
}

/// Lets a process have a group of its own, so that Ctrl-C is for this program, which then ends the others.
pub(crate) fn apart(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    command.process_group(0);
    command
}

/// Keeps one node.
struct Keeper {
    index: usize,
    redis: String,
    key: String,
    states: watch::Sender<Vec<State>>,
}

/// A process, and what it has not answered yet.
struct Running {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    asked: HashMap<u64, oneshot::Sender<Fate>>,
}

impl Keeper {
    async fn keep(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Start => match self.launch() {
                    Ok(running) => self.run(running, &mut orders).await,
                    Err(error) => eprintln!("node {}: {error}", self.index + 1),
                },
                // it does not run: who waits for an answer learns that there is none
                Order::Kill | Order::Push(..) | Order::End(_) => {}
            }
        }
    }

    fn launch(&self) -> std::io::Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["127.0.0.1:0", ROLE]).kill_on_drop(true);
        command.env_remove("DATA").env("REDIS_URL", &self.redis).env("SESSION_KEY", &self.key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = apart(&mut command).spawn()?;
        let output = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        Ok(Running { input: process.stdin.take(), process, output, asked: HashMap::new() })
    }

    /// Does what is ordered, and hears what the node says, until it has ended.
    async fn run(&self, mut node: Running, orders: &mut mpsc::Receiver<Order>) {
        let (mut ended, mut deadline) = (None, Instant::now());
        loop {
            tokio::select! {
                line = node.output.next_line() => match line {
                    Ok(Some(line)) => self.hear(&line, &mut node.asked),
                    // its output ends with it
                    Ok(None) | Err(_) => break,
                },
                Some(order) = orders.recv() => match order {
                    Order::Start => {}
                    Order::Kill => drop(node.process.start_kill()),
                    Order::Push(push, answer) => node.push(&push, answer).await,
                    Order::End(end) => {
                        // without input it ends by itself
                        node.input = None;
                        (ended, deadline) = (Some(end), Instant::now() + GRACE);
                    }
                },
                () = sleep_until(deadline), if ended.is_some() => {
                    let _ = node.process.start_kill();
                    deadline += GRACE;
                }
            }
        }
        let _ = node.process.wait().await;
        self.states.send_modify(|states| states[self.index] = State::default());
        drop(ended);
    }

    fn hear(&self, line: &str, asked: &mut HashMap<u64, oneshot::Sender<Fate>>) {
        // the last of the lines that a program says where it listens
        if let Some((address, _)) = line.strip_prefix("ws://").and_then(|url| url.split_once('/')) {
            self.states.send_modify(|states| states[self.index].address = Some(address.to_owned()));
        }
        match serde_json::from_str(line) {
            Ok(News::Here(users)) => self.states.send_modify(|states| states[self.index].users = users),
            Ok(News::Pushed(id, fate)) => {
                if let Some(answer) = asked.remove(&id) {
                    let _ = answer.send(fate);
                }
            }
            // an address
            Err(_) => {}
        }
    }
}

impl Running {
    async fn push(&mut self, push: &Push, answer: oneshot::Sender<Fate>) {
        let Some(input) = &mut self.input else { return };
        let line = serde_json::to_string(push).expect("texts and numbers are JSON");
        if input.write_all(format!("{line}\n").as_bytes()).await.is_ok() {
            self.asked.insert(push.id, answer);
        }
    }
}
