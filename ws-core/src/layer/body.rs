//! Bodies of responses: [`Body`] for those made here, [`ResponseBody`] for those and the inner service's.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use pin_project::pin_project;

use crate::handshake::{Rejection, is_http_1};

/// The body of a response that is made here: a line of text for a refusal, nothing for an upgrade.
///
/// ```
/// use http_body::Body as _;
/// use http::Version;
/// use ws_core::{Body, Rejection};
///
/// let response: http::Response<Body> = Rejection::NotAnUpgrade.into_response(Version::HTTP_11);
/// assert_eq!(response.status(), 426);
/// assert!(!response.body().is_end_stream());
/// ```
#[derive(Debug, Default)]
pub struct Body(Option<Bytes>);

impl Body {
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// What is in it, for a framework with a type of its own for bodies.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.unwrap_or_default()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}

/// The body of a response of a [`WebSocketService`](crate::WebSocketService): the inner service's, untouched, or the
/// line of text of a refusal.
///
/// ```
/// fn is_a_body<B: http_body::Body<Data = bytes::Bytes>>() {}
///
/// is_a_body::<ws_core::ResponseBody<ws_core::Body>>();
/// ```
#[pin_project]
#[derive(Debug)]
pub struct ResponseBody<B>(#[pin] Kind<B>);

#[pin_project(project = KindProjection)]
#[derive(Debug)]
enum Kind<B> {
    Inner(#[pin] B),
    Own(Body),
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self(Kind::Inner(body))
    }

    pub(crate) fn own(body: Body) -> Self {
        Self(Kind::Own(body))
    }
}

/// An empty body, for middleware around the layer that answers in its place, as tower-http's timeout and CORS do.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::own(Body::empty())
    }
}

impl<B> http_body::Body for ResponseBody<B>
where
    B: http_body::Body<Data: From<Bytes>>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().0.project() {
            KindProjection::Inner(body) => body.poll_frame(cx),
            KindProjection::Own(Body(text)) => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Inner(body) => body.size_hint(),
            Kind::Own(body) => body.size_hint(),
        }
    }
}

impl Rejection {
    /// The response that says so to a request of this HTTP version, with one line of plain text. Emits the one `tracing`
    /// event of the rejection.
    ///
    /// Over HTTP/1.1 the connection ends with it. Over HTTP/2 the stream does, and as there is no `Upgrade`, 400 stands
    /// for 426.
    #[must_use]
    pub fn into_response(self, version: Version) -> Response<Body> {
        self.trace();
        let text = format!("{self}\n");
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.extend(self.headers());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        let status = self.status();
        *response.status_mut() = if is_http_1(version) {
            // what follows the request may be frames, or a body: it must not be taken for another request. RFC 9110
            // section 7.8 wants `upgrade` named where the header `Upgrade` is.
            let connection = if headers.contains_key(UPGRADE) { "close, upgrade" } else { "close" };
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            status
        } else {
            // neither header may stand in HTTP/2 (RFC 9113 section 8.2.2), nor 426 without it (RFC 9110 section 15.5.22)
            match headers.remove(UPGRADE) {
                Some(_) => StatusCode::BAD_REQUEST,
                None => status,
            }
        };
        *response.body_mut() = Body(Some(text.into()));
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn the_default_body_is_empty_whatever_the_inner_services_is() {
        struct NoDefault;
        impl http_body::Body for NoDefault {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                unreachable!("it is not there")
            }
        }
        assert!(ResponseBody::<NoDefault>::default().is_end_stream());
    }
}
