//! Lines for standard output and error that may be lost, but never hold up or fail who says them.
//!
//! A line goes into a bounded queue; a thread of its own writes it. A reader that has gone, a full disk
//! or a pipe that nobody empties (a stalled collector, Ctrl-S) costs lines, which are counted and told
//! once something can be written again. Only nodes write so: a tool is right to wait for its reader.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::common::tasks;

/// What may wait for its reader.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Lines that are together no longer than this reach a pipe in one piece (PIPE_BUF).
const PIECE_BYTES: usize = 4096;

/// A queue of lines with its thread. Clones share it.
#[derive(Clone, Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<u8>,
    writing: bool,
    lost: u64,
}

impl Output {
    /// Starts the thread that writes to `file`. It calls `told` with the number of lines that were lost
    /// when it could write again.
    pub fn start(name: &'static str, file: File, told: fn(u64)) -> io::Result<Output> {
        let shared = Arc::new(Shared::default());
        let output = Output(shared.clone());
        tasks::thread(name, move || shared.write_on(&file, told))?;
        Ok(output)
    }

    /// Queues whole lines, or counts them as lost.
    pub fn push(&self, lines: &[u8]) {
        let mut state = self.0.state();
        if state.queue.len().saturating_add(lines.len()) > QUEUE_BYTES_MAX {
            state.lost = state.lost.saturating_add(count(lines));
            return;
        }
        state.queue.extend_from_slice(lines);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all is written, at most `limit`. Says whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let state = self.0.state();
        let busy = |state: &mut State| state.writing || !state.queue.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, limit, busy);
        let (_state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_on(&self, file: &File, told: fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let state = self.state();
            let waited = self
                .changed
                .wait_while(state, |state| state.queue.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            batch.clear();
            std::mem::swap(&mut batch, &mut state.queue);
            state.writing = true;
            drop(state);
            let failed = write_pieces(file, &batch);
            let mut state = self.state();
            state.lost = state.lost.saturating_add(failed);
            // Told only where the line about it can be queued and there is somebody who reads it.
            let room = state.queue.len() < QUEUE_BYTES_MAX - PIECE_BYTES;
            let lost = if failed == 0 && room {
                std::mem::take(&mut state.lost)
            } else {
                0
            };
            drop(state);
            if lost > 0 {
                told(lost);
            }
            self.state().writing = false;
            self.changed.notify_all();
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends.max(1)).unwrap_or(u64::MAX)
}

/// Writes in pieces of whole lines; the number of lines that could not be written.
fn write_pieces(file: &File, mut lines: &[u8]) -> u64 {
    let mut failed = 0_u64;
    while !lines.is_empty() {
        let (piece, rest) = lines.split_at(piece(lines));
        if write_all(file, piece).is_err() {
            failed = failed.saturating_add(count(piece));
        }
        lines = rest;
    }
    failed
}

/// As many whole lines as go together, or one that is longer.
fn piece(lines: &[u8]) -> usize {
    if lines.len() <= PIECE_BYTES {
        return lines.len();
    }
    let end = |byte: &u8| *byte == b'\n';
    let (first, _) = lines.split_at(PIECE_BYTES);
    let last = first.iter().rposition(end);
    let last = last.or_else(|| lines.iter().position(end));
    last.map_or(lines.len(), |end| end + 1)
}

fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares the pipe made it so; this thread can wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [rustix::event::PollFd::new(
                    &file,
                    rustix::event::PollFlags::OUT,
                )];
                match rustix::event::poll(&mut fds, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// For the log: each event comes as one write.
impl Write for &Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicU64, Ordering};

    const LONG: Duration = Duration::from_secs(30);

    fn pipe() -> (io::PipeReader, File) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader, File::from(OwnedFd::from(writer)))
    }

    #[test]
    fn lines_arrive_in_order_and_whole() {
        let (mut reader, file) = pipe();
        let output = Output::start("test output", file, |_| {}).expect("a thread");
        let mut expected = Vec::new();
        for index in 0..200 {
            let line = format!("{index} {}\n", "x".repeat(index));
            output.push(line.as_bytes());
            expected.extend_from_slice(line.as_bytes());
        }
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).expect("a pipe");
        assert!(got == expected);
        assert!(output.flush(LONG));
    }

    #[test]
    fn what_nobody_reads_is_lost_and_counted_and_holds_nobody_up() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let (mut reader, file) = pipe();
        let output = Output::start("test output", file, |lost| {
            TOLD.fetch_add(lost, Ordering::SeqCst);
        })
        .expect("a thread");
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..4000 {
            output.push(&line);
        }
        assert!(!output.flush(Duration::from_millis(10)), "nobody reads");
        let drained = std::thread::scope(|scope| {
            let lines = scope.spawn(|| {
                let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
                loop {
                    match reader.read(&mut buffer) {
                        Ok(0) | Err(_) => return bytes / line.len(),
                        Ok(read) => bytes += read,
                    }
                    let told = TOLD.load(Ordering::SeqCst);
                    if told > 0 && bytes / line.len() + told as usize == 4000 {
                        return bytes / line.len();
                    }
                }
            });
            assert!(output.flush(LONG));
            // One more, for a reader that asks again after the count is told.
            output.push(b"\n");
            lines.join().expect("a reader")
        });
        assert!(drained >= 1024, "{drained}");
        assert_eq!(drained + TOLD.load(Ordering::SeqCst) as usize, 4000);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, file) = pipe();
        drop(reader);
        let output = Output::start("test output", file, |_| {}).expect("a thread");
        for _ in 0..10 {
            output.push(b"one\ntwo\n");
            assert!(output.flush(LONG));
        }
        assert_eq!(output.0.state().lost, 20);
    }

    #[test]
    fn pieces_end_with_lines() {
        let long = [&[b'x'; 5000][..], b"\n", b"y\n"].concat();
        assert_eq!(piece(&long), 5001);
        assert_eq!(piece(b"a\nb"), 3);
        let many = b"0123456789\n".repeat(1000);
        assert_eq!(piece(&many), PIECE_BYTES / 11 * 11);
        assert_eq!((count(b"a\nb\n"), count(b"torn")), (2, 1));
    }
}
