//! The signals that stop a node: SIGTERM, SIGINT, and SIGHUP unless the parent ignores it. And SIGXFSZ,
//! which must not: with a handler a write above the limit of file sizes fails as others do.
//!
//! Installed before anything else is done, so that one that comes while the configuration is still read
//! waits for the node and stops it cleanly. Only the commands that run nodes install them.

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers; what arrives before anybody listens is kept.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. `Err` is the message for standard error.
    pub fn install() -> Result<Signals, String> {
        let failed = |error: std::io::Error| format!("signals cannot be received: {error}");
        // Handlers belong to the process, but only a runtime makes them; the node's own is not there yet.
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(failed)?;
        let _entered = runtime.enter();
        // The handler outlives this; nobody has to listen.
        let too_large = rustix::process::Signal::XFSZ.as_raw();
        let _ = signal(SignalKind::from_raw(too_large)).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        // What nohup started has to survive its terminal.
        let hangup = if hangup_is_ignored() {
            None
        } else {
            Some(signal(SignalKind::hangup()).map_err(failed)?)
        };
        Ok(Signals {
            terminate,
            interrupt,
            hangup,
        })
    }

    /// Resolves at the next signal.
    pub async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads the mask of ignored signals as Linux shows it: SIGHUP is the lowest bit.
fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        for (mask, ignored) in [
            ("0000000000001001", true),
            ("0000000000001000", false),
            ("x", false),
        ] {
            let status = format!("Name:\ttripod\nSigBlk:\t1\nSigIgn:\t{mask}\nSigCgt:\t1\n");
            assert_eq!(ignores_hangup(&status), ignored, "{mask}");
        }
        assert!(!ignores_hangup(""));
    }
}
