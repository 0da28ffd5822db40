//! Ports that the tests of one machine do not take from one another.

use duet::process::free_port;

/// A port that no test process gives away twice, also while nothing listens on it: whoever uses it holds the UDP port of
/// the same number.
pub(super) struct Port {
    pub(super) number: u16,
    _reserved: std::net::UdpSocket,
}

impl Port {
    pub(super) fn reserve() -> Self {
        loop {
            let number = free_port().unwrap();
            if let Ok(reserved) = std::net::UdpSocket::bind(("127.0.0.1", number)) {
                return Self { number, _reserved: reserved };
            }
        }
    }
}
