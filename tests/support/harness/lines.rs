//! The lines between the three, where the test put itself in between.

use duet_protocol::ApplianceId;

use super::super::proxy::{Line, Way};
use super::{Lines, Pair};

impl Pair {
    fn lines(&self, appliance: ApplianceId) -> &Lines {
        self.lines.as_ref().expect("a pair with lines").get(appliance)
    }

    /// What an appliance has to the outside: its line to the peer (both directions) and to the witness.
    pub fn set_peer_lines(&self, line: Line) {
        for appliance in ApplianceId::ALL {
            self.lines(appliance).peer.set(line);
            self.lines(appliance).forwarded.set(line);
        }
    }

    /// Connects or cuts one appliance and the witness.
    pub fn set_witness_line(&self, appliance: ApplianceId, line: Line) {
        if let Some(proxy) = &self.lines(appliance).witness {
            proxy.set(line);
            return;
        }
        let link = self.witness_link(appliance);
        std::fs::remove_file(&link).unwrap();
        let to = if line == Line::Open { self.witness_data() } else { self.dir.join("unmounted") };
        std::os::unix::fs::symlink(to, link).unwrap();
    }

    /// Changes what one appliance sends to the other, whoever made the connection.
    pub fn set_peer_way(&self, from: ApplianceId, line: Line) {
        let (own, other) = (self.lines(from), self.lines(from.peer()));
        own.peer.set_way(Way::There, line);
        other.peer.set_way(Way::Back, line);
        other.forwarded.set_way(Way::There, line);
        own.forwarded.set_way(Way::Back, line);
    }

    /// Changes one direction between an appliance and the witness server.
    pub fn set_witness_way(&self, appliance: ApplianceId, way: Way, line: Line) {
        let proxy = self.lines(appliance).witness.as_ref().expect("a witness server");
        proxy.set_way(way, line);
    }

    /// Closes every connection between the appliances; they may connect again at once.
    pub fn reset_peer_lines(&self) {
        for appliance in ApplianceId::ALL {
            self.lines(appliance).peer.reset();
            self.lines(appliance).forwarded.reset();
        }
    }
}
