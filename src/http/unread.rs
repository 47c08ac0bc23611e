//! Bodies in chunks that nobody reads to their end. The server beneath would go on taking chunks after the answer, however many
//! come and however long it takes; as long as somebody holds what is unread it closes the connection instead. So the answer does.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use pin_project_lite::pin_project;

use super::ahead::Cut;

/// A body that two hold: who reads it, and the answer.
#[derive(Clone)]
pub struct Held(Rc<RefCell<Payload>>);

impl Held {
    /// Takes hold of the request's body.
    pub fn of(request: &mut ServiceRequest) -> Self {
        let held = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(held.clone()) });
        held
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Stream for Held {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

pin_project! {
    /// The body of an answer.
    #[project = HoldingProjection]
    pub enum Holding<B> {
        /// It holds that of the request, if need be, until it is sent.
        Whole { #[pin] body: B, unread: Option<Held> },
        /// It is that of an answer which came from no route.
        Told { #[pin] body: BoxBody },
        /// It fails, and its connection with it.
        Cut,
    }
}

impl<B> Holding<B> {
    /// With what is to be held.
    pub fn new(body: B, unread: Option<Held>) -> Self {
        Self::Whole { body, unread }
    }
}

impl<B: MessageBody> MessageBody for Holding<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match self {
            Self::Whole { body, .. } => body.size(),
            Self::Told { body } => body.size(),
            Self::Cut => BodySize::Stream,
        }
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.project() {
            HoldingProjection::Whole { body, .. } => body.poll_next(context).map_err(Into::into),
            HoldingProjection::Told { body } => body.poll_next(context),
            HoldingProjection::Cut => Poll::Ready(Some(Err(Cut.into()))),
        }
    }
}
