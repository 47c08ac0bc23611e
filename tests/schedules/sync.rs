//! Tokio's own channels and semaphore, with a point before each use at which any other task may go first.

use std::sync::Arc;
use std::time::Duration;

use real_tokio::sync as real;
use real_tokio::sync::{AcquireError, OwnedSemaphorePermit, SemaphorePermit};

/// Any other task may go first. Not while one breaks down: what is dropped then is dropped in one go.
fn others_may_go_first() {
    if !std::thread::panicking() {
        shuttle::thread::sleep(Duration::ZERO); // no more than a switch; a yield would let all others go first
    }
}

pub struct Semaphore(Arc<real::Semaphore>);

impl Semaphore {
    pub fn new(permits: usize) -> Self {
        Self(Arc::new(real::Semaphore::new(permits)))
    }

    pub async fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        others_may_go_first();
        Arc::clone(&self.0).acquire_owned().await
    }

    pub async fn acquire_many(&self, permits: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        others_may_go_first();
        self.0.acquire_many(permits).await
    }
}

pub mod mpsc {
    use real_tokio::sync::mpsc as real;

    use super::others_may_go_first;

    pub use real::error;

    pub struct Sender<T>(real::Sender<T>);

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    pub struct Receiver<T>(real::Receiver<T>);

    pub fn channel<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = real::channel(bound);
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub fn try_send(&self, value: T) -> Result<(), error::TrySendError<T>> {
            others_may_go_first();
            self.0.try_send(value)
        }
    }

    impl<T> Receiver<T> {
        pub async fn recv_many(&mut self, buffer: &mut Vec<T>, most: usize) -> usize {
            others_may_go_first();
            self.0.recv_many(buffer, most).await
        }

        pub fn is_closed(&self) -> bool {
            others_may_go_first();
            self.0.is_closed()
        }
    }
}

pub mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use real_tokio::sync::oneshot as real;

    use super::others_may_go_first;

    pub struct Sender<T>(real::Sender<T>);
    pub struct Receiver<T>(real::Receiver<T>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = real::channel();
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub fn send(self, value: T) -> Result<(), T> {
            others_may_go_first();
            self.0.send(value)
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, real::error::RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            others_may_go_first();
            Pin::new(&mut self.0).poll(context)
        }
    }
}
