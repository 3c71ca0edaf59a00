//! Messages as JSON.

use crate::error::Error;
use crate::message::Message;

impl Message {
    /// A text message with `value` as JSON.
    ///
    /// # Errors
    ///
    /// If `value` cannot be written as JSON, such as a map with keys that are not strings.
    ///
    /// ```
    /// # #[derive(serde::Serialize)]
    /// struct User { name: &'static str }
    ///
    /// let message = ws_core::Message::json(&User { name: "Ada" })?;
    /// assert_eq!(message.as_text(), Some(r#"{"name":"Ada"}"#));
    /// # Ok::<(), ws_core::Error>(())
    /// ```
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        Ok(Self::text(serde_json::to_string(value)?))
    }

    /// Reads the payload, of a text or a binary message, as JSON.
    ///
    /// # Errors
    ///
    /// If the payload is not JSON, or not the JSON of a `T`. The error names the line and the column.
    ///
    /// ```
    /// use ws_core::Message;
    ///
    /// let numbers: Vec<u8> = Message::from("[1, 2]").to_json()?;
    /// assert_eq!(numbers, [1, 2]);
    ///
    /// let error = Message::from("[1, ").to_json::<Vec<u8>>().unwrap_err();
    /// assert!(error.to_string().contains("line 1 column 4"));
    /// # Ok::<(), ws_core::Error>(())
    /// ```
    pub fn to_json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Error> {
        Ok(serde_json::from_slice(self.as_bytes())?)
    }
}
