//! The head of a response, of a server or of a proxy. It is bounded.

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::error::ConnectError;

/// The largest head of a response, in bytes, and with how many headers.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// The space for one read, in bytes.
pub(super) const READ_SIZE: usize = 2 * 1024;

/// Reads the head of the response. Returns it with the bytes that were read after it.
pub(super) async fn read_head<S>(stream: &mut S) -> Result<(Response<()>, BytesMut), ConnectError>
where
    S: AsyncRead + Unpin,
{
    let mut read = BytesMut::new();
    // the bytes of informational answers count, too
    let mut skipped = 0;
    loop {
        if let Some((length, response)) = parse_head(&read, MAX_HEAD - skipped)? {
            read.advance(length);
            let status = response.status();
            // informational answers may precede the final one (RFC 9110 section 15.2)
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((response, read));
            }
            skipped += length;
            continue;
        }
        read.reserve(READ_SIZE);
        match stream.read_buf(&mut read).await {
            Ok(0) => return Err(ConnectError::Disconnected(None)),
            Ok(_) => {}
            Err(error) => return Err(ConnectError::Disconnected(Some(error))),
        }
    }
}

/// The head at the front of `read`, and its length; `None` if it is not complete.
fn parse_head(read: &[u8], limit: usize) -> Result<Option<(usize, Response<()>)>, ConnectError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(read) {
        Ok(Status::Complete(length)) if length <= limit => Ok(Some((length, response(&parsed)?))),
        Ok(Status::Partial) if read.len() < limit => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(ConnectError::HeadTooLarge),
        Err(error) => Err(ConnectError::invalid_response(format!("it is not HTTP/1.1 ({error})"))),
    }
}

/// What was parsed, as the type that users know.
fn response(parsed: &httparse::Response<'_, '_>) -> Result<Response<()>, ConnectError> {
    let invalid =
        |error: http::Error| ConnectError::invalid_response(format!("it is not HTTP/1.1 ({error})"));
    let mut response = Response::new(());
    let status = parsed.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(status).map_err(|error| invalid(error.into()))?;
    *response.version_mut() = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| invalid(error.into()))?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| invalid(error.into()))?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_bounded_in_bytes_and_lines() {
        let head = |lines: usize, length: usize| {
            let lines = "x: y\r\n".repeat(lines);
            let filler = "z".repeat(length - lines.len() - "HTTP/1.1 101 OK\r\nf: \r\n\r\n".len());
            format!("HTTP/1.1 101 OK\r\n{lines}f: {filler}\r\n\r\n").into_bytes()
        };
        let parsed = |head: &[u8]| parse_head(head, MAX_HEAD).map(|parsed| parsed.map(|(length, _)| length));
        assert!(matches!(parsed(&head(0, MAX_HEAD)), Ok(Some(MAX_HEAD))));
        assert!(matches!(parsed(&head(0, MAX_HEAD)[..MAX_HEAD - 1]), Ok(None)));
        assert!(matches!(parsed(&head(0, MAX_HEAD + 1)), Err(ConnectError::HeadTooLarge)));
        assert!(matches!(parsed(&head(0, MAX_HEAD + 1)[..MAX_HEAD]), Err(ConnectError::HeadTooLarge)));
        assert!(matches!(parsed(&head(99, 4000)), Ok(Some(4000))));
        for lines in [100, 123, 124, 500] {
            assert!(matches!(parsed(&head(lines, 4000)), Err(ConnectError::HeadTooLarge)), "{lines}");
        }
    }
}
