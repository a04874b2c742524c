//! One signal, many listeners.

use tokio_util::sync::CancellationToken;

/// Tells everybody who holds a clone that it is time to stop. Once asked, it stays asked.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that nobody has given yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Gives the signal to this one and all its children.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Was the signal given?
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when the signal is given.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// A signal that follows this one but can also be given alone.
    pub fn child(&self) -> Shutdown {
        Shutdown(self.0.child_token())
    }
}
