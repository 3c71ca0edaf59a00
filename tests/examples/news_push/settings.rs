//! Values of the environment that are refused: one sentence says which, why, and what would be right.

use std::ffi::OsStr;
use std::fs;

use super::News;
use crate::support::{Directory, Example};

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
    for name in ["DATA", "SESSION_KEY"] {
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
