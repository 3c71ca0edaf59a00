//! Bodies of responses: [`Body`] of a response that this crate makes, [`ResponseBody`] of any response that passes through
//! the layer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project::pin_project;

/// The body of a response that this crate makes: one line of text for a refusal, empty for an upgrade.
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

    pub(crate) fn text(text: String) -> Self {
        Self(Some(text.into()))
    }

    /// The content, for a framework that has its own type for bodies.
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

/// The body of a response of a [`WebSocketService`](crate::WebSocketService): the inner service's body, unchanged, or the
/// [`Body`] of a refusal.
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

/// An empty body. Middleware around the layer needs it to answer by itself, as the timeout and CORS of tower-http do.
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
