//! Values of the environment that are refused: one sentence says which, why, and what would be right.

use std::ffi::OsStr;
use std::fs;

use super::News;
use crate::support::{Directory, Example, Redis};

/// What is printed for these variables: one line.
fn refusal(variables: &[(&str, &str)]) -> String {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, OsStr::new(*value))).collect();
    let printed = Example::refuses("news_push", &variables);
    assert_eq!(printed.len(), 1, "{printed:?}");
    printed.concat()
}

#[test]
fn a_session_key_that_is_none_is_refused_and_is_not_shown() {
    let advice = "set it to at least 64 bytes in hexadecimal, such as the output of `openssl rand -hex 64`, or \
                  leave it out";
    for (key, problem) in [
        ("", "is empty"),
        (&"ab".repeat(63), "has 63 bytes, which is too few"),
        (&"abc".repeat(43), "has 129 hexadecimal digits, which is an odd number"),
        (&"my secret".repeat(20), "has a character that is no hexadecimal digit, at place 1"),
    ] {
        assert_eq!(refusal(&[("SESSION_KEY", key)]), format!("SESSION_KEY {problem}: {advice}"));
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    for name in ["DATA", "REDIS_URL", "SESSION_KEY"] {
        let printed = Example::refuses("news_push", &[(name, OsStr::from_bytes(b"\xff"))]);
        assert_eq!(printed, [format!("{name} is not UTF-8: set it to a text, or leave it out")]);
    }
}

#[test]
fn data_that_cannot_be_a_file_is_refused() {
    let directory = Directory::new();
    assert_eq!(
        refusal(&[("DATA", "")]),
        "DATA is empty: set it to the path of a file, or leave it out to keep messages in memory"
    );
    let (missing, path) = (directory.file("missing"), directory.file("missing/news.redb"));
    assert_eq!(
        refusal(&[("DATA", &path)]),
        format!(
            "DATA={path}: there is no directory {missing}: make it, or name a file in a directory that exists"
        )
    );
    let path = directory.file("");
    let refused = refusal(&[("DATA", &path)]);
    assert!(refused.starts_with(&format!("DATA={path}: the file cannot be opened (")), "{refused}");
    assert!(refused.ends_with("): name one that can be read and written"), "{refused}");
}

#[test]
fn data_that_is_something_else_is_refused_and_stays_as_it_is() {
    let directory = Directory::new();
    let path = directory.file("notes.txt");
    fs::write(&path, "notes of somebody").expect("a file");
    assert_eq!(
        refusal(&[("DATA", &path)]),
        format!(
            "DATA={path}: the file is damaged, or something other than messages: name one that this program has \
             made, or one that does not exist yet"
        )
    );
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "notes of somebody");
}

#[tokio::test]
async fn data_that_another_process_has_is_refused_and_that_process_goes_on() {
    let directory = Directory::new();
    let path = directory.file("news.redb");
    let news = News::start_with(&[("DATA", &path)]);
    assert_eq!(
        refusal(&[("DATA", &path)]),
        format!("DATA={path}: the file is in use by another process: end that process, or name another file")
    );
    assert_eq!(news.push("anna", "one").await.0, 202);
    news.example.kill();
    let news = News::start_with(&[("DATA", &path)]);
    let mut anna = news.connect("anna").await;
    assert_eq!(super::title(&mut anna).await, "one");
}

#[test]
fn redis_and_a_file_at_once_are_refused() {
    let expected = "REDIS_URL and DATA are both set: messages are in one place, so leave one of them out";
    for example in ["news_push", "chat"] {
        let variables = [("REDIS_URL", "redis://127.0.0.1:6379"), ("DATA", "news.redb")];
        let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
        assert_eq!(Example::refuses(example, &variables), [expected]);
    }
}

#[test]
fn an_address_without_a_redis_is_refused_and_no_password_is_shown() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    for url in [format!("redis://{address}"), format!("redis://anna:secret@{address}")] {
        assert_eq!(
            refusal(&[("REDIS_URL", &url)]),
            format!(
                "REDIS_URL: the Redis server at {address} cannot be reached: start it, or name another one"
            )
        );
    }
    assert_eq!(
        refusal(&[("REDIS_URL", "https://anna:secret@example.com")]),
        "REDIS_URL: example.com is not the address of a Redis server, such as redis://localhost:6379: set it to one"
    );
}

#[test]
fn a_wrong_password_is_refused_and_not_shown() {
    let redis = Redis::start_with(&["requirepass", "correct"]);
    let address = redis.address();
    for url in [redis.url(), format!("redis://:wrong@{address}")] {
        assert_eq!(
            refusal(&[("REDIS_URL", &url)]),
            format!(
                "REDIS_URL: the Redis server at {address} refuses the user or the password, or what they may do: \
                 name those that it lets in, as in redis://USER:PASSWORD@HOST:6379"
            )
        );
    }
}

#[test]
fn one_server_and_a_cluster_are_not_mistaken_for_each_other() {
    let redis = Redis::start();
    let (address, url) = (redis.address(), redis.url());
    assert_eq!(
        refusal(&[("REDIS_URL", &format!("{url}, {url}"))]),
        format!(
            "REDIS_URL: the Redis server at {address} is not one of a cluster: use `RedisBackplane::builder` with its \
             address: name it alone"
        )
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let bus = listener.local_addr().expect("it is bound").port().to_string();
    drop(listener);
    let redis = Redis::start_with(&["cluster-enabled", "yes", "cluster-port", &bus]);
    let (address, url) = (redis.address(), redis.url());
    assert_eq!(
        refusal(&[("REDIS_URL", &url)]),
        format!(
            "REDIS_URL: the Redis server at {address} is one of a cluster: use `RedisBackplane::cluster` with its \
             address, and the feature `cluster` of ws-hub-redis: name several of its servers, with commas between them"
        )
    );
}

#[test]
fn replicas_that_are_no_number_are_refused() {
    for value in ["", "one", "-1"] {
        assert_eq!(
            refusal(&[("REDIS_URL", "redis://127.0.0.1:6379"), ("REDIS_REPLICAS", value)]),
            "REDIS_REPLICAS is no number: set it to one, such as 1, or leave it out"
        );
    }
}
