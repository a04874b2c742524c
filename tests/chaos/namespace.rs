//! A test that runs itself again in a fresh namespace of the system, so that nothing of it is left on the
//! machine, however it ends.

use std::process::Command;

/// Says to a test that it is the one inside.
const INSIDE: &str = "TRIPOD_CHAOS_INSIDE";

/// Whether this is the run inside. If not, runs the test again inside and passes on how it went. `trial` is
/// what has to work in such a namespace.
pub async fn inside(test: &'static str, kind: &'static str, trial: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", kind, "--"]);
        command
    };
    let tried = unshare().args(trial).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "{test}: no namespace ({kind}) can be made");
        let trial = trial.join(" ");
        eprintln!("SKIPPED {test}: `unshare --map-root-user {kind} -- {trial}` has to work");
        return false;
    }
    let mut again = unshare();
    again.arg(std::env::current_exe().expect("known"));
    again.args(["--exact", test, "--nocapture"]);
    again.env(INSIDE, "yes");
    let running = tokio::task::spawn_blocking(move || again.output());
    let output = running.await.expect("no panic").expect("it starts");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test}, inside: {}", output.status);
    false
}
