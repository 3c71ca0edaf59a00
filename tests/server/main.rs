//! The server of the programs that measure one from outside: `ws-tests-server ADAPTER CONTROL LIMITS`, as
//! `ws_tests::Outside` starts it. It connects to CONTROL, says where it listens, obeys the commands that come, and ends
//! with that connection.

mod app;
mod roles;

use std::env;
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use ws_core::{Connections, Drain};
use ws_tests::adapters::{Axum, Hyper, Warp};
use ws_tests::outside::{Counters, Limits};
use ws_tests::{Running, Server as _, Setup};

use app::{App, PANICS};

fn main() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        default(panic);
    }));
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [adapter, control, limits] = &arguments[..] else { panic!("ADAPTER CONTROL LIMITS: {arguments:?}") };
    let control = control.parse().expect("the address of the control connection");
    let limits = Limits::parse(limits).expect("limits of time");
    ws_tests::runtime::allow_many_sockets();
    // as many threads as the servers of the other tests have
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system gives threads to a runtime").block_on(obey(adapter, control, limits));
}

async fn obey(adapter: &str, control: SocketAddr, limits: Limits) {
    let control = TcpStream::connect(control).await.expect("the test listens");
    control.set_nodelay(true).expect("a TCP socket knows the option");
    let (commands, mut answers) = control.into_split();
    let mut commands = BufReader::new(commands).lines();
    let app = Arc::new(App::new());
    let mut server = start(adapter, &app, limits).await;
    let mut layers = vec![server.connections.clone()];
    let mut publisher = None;
    let mut answer = server.address.to_string();
    loop {
        answer.push('\n');
        // the test may have ended
        let Ok(()) = answers.write_all(answer.as_bytes()).await else { return };
        let Ok(Some(line)) = commands.next_line().await else { return };
        answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("counters", _) => count(&app, &layers).to_string(),
            ("handlers", _) => app.handlers().join(", "),
            ("release", _) => {
                app.released.send_replace(true);
                String::new()
            }
            ("publish", per_second) => {
                app.publish(per_second.parse().expect("messages a second"), &mut publisher).await;
                String::new()
            }
            ("roll", _) => {
                let old = std::mem::replace(&mut server, start(adapter, &app, limits).await);
                tokio::spawn(old.stop());
                layers.push(server.connections.clone());
                server.address.to_string()
            }
            _ => panic!("a command that there is not: {line}"),
        };
    }
}

async fn start(adapter: &str, app: &Arc<App>, limits: Limits) -> Running {
    let app = Arc::clone(app);
    let setup = Setup::new(move |socket| roles::serve(Arc::clone(&app), socket))
        .layer(limits.layer())
        .drain(Drain::new().batches(50, Duration::from_millis(20)).timeout(Duration::from_secs(15)));
    match adapter {
        "axum" => Axum::start(setup).await,
        "hyper" => Hyper::start(setup).await,
        "warp" => Warp::start(setup).await,
        _ => panic!("an adapter that there is not: {adapter}"),
    }
}

fn count(app: &App, layers: &[Connections]) -> Counters {
    let hub = app.hub.stats();
    Counters {
        connections: layers.iter().map(Connections::len).sum(),
        tasks: Handle::current().metrics().num_alive_tasks(),
        users: hub.users,
        attached: hub.connections,
        rooms: hub.rooms,
        lost: usize::try_from(hub.dropped + hub.evicted + hub.failed).expect("a count fits"),
        overflowed: usize::try_from(hub.overflowed).expect("a count fits"),
        panics: PANICS.load(Ordering::SeqCst),
    }
}
