//! Three machines on one: both appliances and the witness each in a network namespace of its own, joined by a fourth one that
//! passes packets on between them, or drops them without a word. The test lives in that middle. Needs root and `ip`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::harness::{Place, Places};

/// One of the three machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    A,
    B,
    Witness,
}

impl Machine {
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Witness];

    const fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::Witness => 'w',
        }
    }

    /// Each has a network of its own, with the middle.
    fn network(self) -> String {
        format!("10.77.{}", self as u8 + 1)
    }

    fn address(self) -> String {
        format!("{}.2", self.network())
    }
}

/// The namespaces; dropping it removes them.
pub struct Network {
    name: String,
}

/// Runs `ip` with these commands.
fn ip(namespace: Option<&str>, commands: &[String]) -> bool {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let child = command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let written = child.stdin.take().unwrap().write_all((commands.join("\n") + "\n").as_bytes());
    child.wait().unwrap().success() && written.is_ok()
}

impl Network {
    /// `None`, with a word, where that is not allowed.
    pub fn build() -> Option<Self> {
        forget_older_runs();
        let network = Self { name: format!("duet-{}", std::process::id()) };
        let built = network.add_middle() && Machine::ALL.into_iter().all(|machine| network.add(machine));
        if !built {
            println!("skipped: network namespaces need root and ip (iproute2)");
        }
        built.then_some(network)
    }

    fn middle(&self) -> String {
        format!("{}-m", self.name)
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}-{}", self.name, machine.letter())
    }

    fn add_middle(&self) -> bool {
        let middle = self.middle();
        let forward = ["netns", "exec", &middle, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        ip(None, &[format!("netns add {middle}")])
            && ip(Some(&middle), &["link set lo up".into()])
            && Command::new("ip").args(forward).status().is_ok_and(|status| status.success())
    }

    fn add(&self, machine: Machine) -> bool {
        let (namespace, network) = (self.namespace(machine), machine.network());
        let line = format!("to-{}", machine.letter());
        let middle = [
            format!("link add name {line} type veth peer name out netns {namespace}"),
            format!("addr add {network}.1/24 dev {line}"),
            format!("link set {line} up"),
        ];
        let inside = [
            "link set lo up".to_owned(),
            format!("addr add {}/24 dev out", machine.address()),
            "link set out up".to_owned(),
            format!("route add default via {network}.1"),
        ];
        ip(None, &[format!("netns add {namespace}")])
            && ip(Some(&self.middle()), &middle)
            && ip(Some(&namespace), &inside)
    }

    /// Moves this thread, and those that it starts, into the middle, from where all three can be reached.
    pub fn enter(&self) {
        let middle = File::open(Path::new("/run/netns").join(self.middle())).unwrap();
        move_into_link_name_space(middle.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Where the pair's processes run.
    pub fn places(&self) -> Places {
        let place = |machine: Machine| Place {
            host: machine.address(),
            enter: ["ip", "netns", "exec", &self.namespace(machine)].map(String::from).into(),
        };
        Places { a: place(Machine::A), b: place(Machine::B), witness: place(Machine::Witness) }
    }

    /// From now on packets of one machine to another are dropped, and nobody is told.
    pub fn drop_packets(&self, from: Machine, to: Machine) {
        let rule = format!("rule add from {} to {} blackhole", from.address(), to.address());
        assert!(ip(Some(&self.middle()), &[rule]), "packets of {from:?} to {to:?} are dropped");
    }

    /// Packets pass again.
    pub fn pass_packets(&self, from: Machine, to: Machine) {
        let rule = format!("rule del from {} to {} blackhole", from.address(), to.address());
        assert!(ip(Some(&self.middle()), &[rule]), "packets of {from:?} to {to:?} pass");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in Machine::ALL.map(|machine| self.namespace(machine)).into_iter().chain([self.middle()]) {
            ip(None, &[format!("netns del {name}")]);
        }
    }
}

/// Removes the namespaces of runs whose process is gone.
fn forget_older_runs() {
    let Ok(list) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&list.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let pid = name.strip_prefix("duet-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            ip(None, &[format!("netns del {name}")]);
        }
    }
}
