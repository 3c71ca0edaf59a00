//! Ready-made ways to write the position of a message into it: for [`HubBuilder::framed`](crate::HubBuilder::framed).

use ws_core::Message;

use crate::position::Position;

/// The position in front: of a text, as a line of its own; of binary data, as 16 bytes, the number and the id, big endian.
///
/// ```
/// use ws_core::Message;
/// use ws_hub::framing;
///
/// let position = "17.9f3c5a0e2b7d4411".parse().unwrap();
/// let framed = framing::prefix(&position, &Message::text("hello"));
/// assert_eq!(framed.as_text(), Some("17.9f3c5a0e2b7d4411\nhello"));
/// ```
#[must_use]
pub fn prefix(position: &Position, message: &Message) -> Message {
    if let Some(text) = message.as_text() {
        return Message::text(format!("{position}\n{text}"));
    }
    let (number, id) = (position.number.to_be_bytes(), position.id.get().to_be_bytes());
    Message::binary([number.as_slice(), &id, message.as_bytes()].concat())
}

/// The position as a member of the JSON object that a text is, under this name, in front of the others. Other messages stay as
/// they are.
///
/// ```
/// use ws_core::Message;
/// use ws_hub::framing;
///
/// let position = "17.9f3c5a0e2b7d4411".parse().unwrap();
/// let framed = framing::json("at")(&position, &Message::text(r#"{"from":"bob"}"#));
/// assert_eq!(framed.as_text(), Some(r#"{"at":"17.9f3c5a0e2b7d4411","from":"bob"}"#));
/// ```
///
/// # Panics
///
/// If the name has characters other than ASCII letters, digits, `_` and `-`, or none.
#[track_caller]
pub fn json(name: &'static str) -> impl Fn(&Position, &Message) -> Message + Send + Sync + 'static {
    let is_plain =
        !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it));
    assert!(is_plain, "a name of ASCII letters, digits, `_` and `-`, not {name:?}");
    move |position, message| {
        let Some(rest) = message.as_text().and_then(|text| text.trim_start().strip_prefix('{')) else {
            return message.clone();
        };
        let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
        Message::text(format!("{{\"{name}\":\"{position}\"{comma}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        "17.9f3c5a0e2b7d4411".parse().unwrap()
    }

    #[test]
    fn binary_data_has_its_position_in_16_bytes() {
        let framed = prefix(&position(), &Message::binary(vec![1, 2]));
        assert_eq!(
            framed.as_bytes(),
            [&17_u64.to_be_bytes(), &0x9f3c_5a0e_2b7d_4411_u64.to_be_bytes(), [1, 2].as_slice()].concat()
        );
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for message in [Message::text("[1]"), Message::text(""), Message::binary(b"{}".to_vec())] {
            assert_eq!(json("at")(&position(), &message), message);
        }
        let framed = json("at")(&position(), &Message::text(" { } "));
        assert_eq!(framed.as_text(), Some("{\"at\":\"17.9f3c5a0e2b7d4411\" } "));
    }

    #[test]
    #[should_panic(expected = "a name of ASCII letters")]
    fn a_name_that_would_need_escaping_is_refused() {
        let _ = json("a\"b");
    }
}
