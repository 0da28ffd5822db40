//! SIGTERM and SIGINT ask for a soft shutdown. SIGTERM asks once, however often it comes; a person at a terminal may lose
//! patience: the second Ctrl-C is told that it is still going on, the third ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Failure;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopRequest {
    /// Stop in an orderly way.
    Softly,
    /// Asked again while it is stopping.
    Impatient,
    /// End now, whatever is lost in convenience.
    AtOnce,
}

/// The stop requests of this process.
pub struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    asked: u32,
}

impl StopRequests {
    /// From now on the signals no longer end the process by themselves.
    pub fn new() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot handle signals: {error}"), "try again"))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            asked: 0,
        })
    }

    /// Waits for the next request.
    pub async fn next(&mut self) -> StopRequest {
        loop {
            let from_terminal = tokio::select! {
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => true,
            };
            if let Some(request) = escalate(&mut self.asked, from_terminal) {
                return request;
            }
        }
    }
}

fn escalate(asked: &mut u32, from_terminal: bool) -> Option<StopRequest> {
    if *asked > 0 && !from_terminal {
        return None;
    }
    *asked += 1;
    Some(match *asked {
        1 => StopRequest::Softly,
        2 => StopRequest::Impatient,
        _ => StopRequest::AtOnce,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_escalates_a_service_manager_does_not() {
        let mut asked = 0;
        let told: Vec<_> = [false, false, true, false, true].map(|from| escalate(&mut asked, from)).into();
        let expected =
            [Some(StopRequest::Softly), None, Some(StopRequest::Impatient), None, Some(StopRequest::AtOnce)];
        assert_eq!(told, expected);
    }
}
