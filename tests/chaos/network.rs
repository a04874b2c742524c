//! A network of our own: a namespace for each node, all on one bridge, and links that can be cut one way.
//!
//! A test of this kind runs itself again in a fresh network namespace, where the bridge is; nothing of it is
//! left on the machine, however it ends. A cut is silent: what a node sends goes to an address that nobody
//! has, so that connections neither break nor are refused.

use std::process::{Child, Command, Stdio};

use crate::namespace;
use crate::nodes::Place;

/// Nobody's.
const NOWHERE: &str = "02:00:00:00:ff:ff";

/// Whether this is the run in a network namespace of its own.
pub async fn inside(test: &'static str) -> bool {
    let trial = ["ip", "link", "add", "trial0", "type", "bridge"];
    namespace::inside(test, "--net", &trial).await
}

/// The places of three nodes, and the links between them.
pub struct Network {
    holders: Vec<Child>,
}

impl Network {
    /// Makes it in the namespace that we are in.
    pub fn new() -> Network {
        run(Command::new("ip"), "link set lo up");
        run(Command::new("ip"), "link add br0 type bridge");
        run(Command::new("ip"), "link set br0 up");
        run(Command::new("ip"), "addr add 10.77.0.254/24 dev br0");
        let mut network = Network { holders: vec![] };
        for node in 0..3 {
            let mut holder = Command::new("unshare");
            // It lives until its input ends, which is when we do.
            holder.args(["--net", "--", "sh", "-c", "echo up; read -r _"]);
            holder.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut holder = holder.spawn().expect("it starts");
            let mut up = [0; 3];
            let output = holder.stdout.as_mut().expect("piped");
            std::io::Read::read_exact(output, &mut up).expect("it is in its namespace");
            let pid = holder.id();
            network.holders.push(holder);
            let ip = |line: String| run(Command::new("ip"), &line);
            ip(format!(
                "link add out{node} type veth peer name in{node} netns {pid}"
            ));
            ip(format!("link set out{node} master br0 up"));
            let place = network.place(node);
            let ip = |line: String| run(place.command("ip"), &line);
            ip("link set lo up".to_owned());
            ip(format!("link set in{node} address {} name eth0", mac(node)));
            ip(format!("addr add {}/24 dev eth0", place.host));
            ip("link set eth0 up".to_owned());
        }
        network
    }

    /// Where the nodes run.
    pub fn places(&self) -> [Place; 3] {
        [0, 1, 2].map(|node| self.place(node))
    }

    fn place(&self, node: usize) -> Place {
        Place {
            host: format!("10.77.0.{}", node + 1),
            namespace: Some(self.holders[node].id()),
            ..Place::local()
        }
    }

    /// Nothing that `from` sends reaches `to` any more; the other way stays open.
    pub fn cut(&self, from: usize, to: usize) {
        self.neighbour(from, to, NOWHERE);
    }

    /// Mends what [`Network::cut`] did.
    pub fn mend(&self, from: usize, to: usize) {
        self.neighbour(from, to, &mac(to));
    }

    fn neighbour(&self, from: usize, to: usize, mac: &str) {
        let to = self.place(to).host;
        let line = format!("neigh replace {to} lladdr {mac} nud permanent dev eth0");
        run(self.place(from).command("ip"), &line);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn mac(node: usize) -> String {
    format!("02:00:00:00:00:0{}", node + 1)
}

fn run(mut command: Command, line: &str) {
    let output = command.args(line.split(' ')).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {error}");
}
