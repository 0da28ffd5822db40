//! Every time and size the protocol depends on, with its unit and its reason.

use crate::time::Duration;

/// T, the least: for how long an answered heartbeat binds the secondary not to begin. When the primary's process is
/// killed its connection ends at once, and this is nearly all that the secondary still has to wait for.
pub const PROMISE: Duration = Duration::from_millis(90);

/// T, the most: what a primary asks for when its peer is far away, and what an appliance that was restarted presumes
/// to have promised. Below [`MISS`], or a missing primary would be suspected in vain.
pub const PROMISE_MAX: Duration = Duration::from_millis(250);

/// The promise to ask for at this round trip: the lease is counted from the sending, so it must outlast the way there and
/// back and the pause until the next heartbeat's answer, both with room to spare.
pub fn promise(round_trip: Duration) -> Duration {
    (round_trip * 2 + HEARTBEAT * 3).clamp(PROMISE, PROMISE_MAX)
}

/// What a promise is worth to the primary, counted from its own sending: 1 % less, because the clocks' rates may differ,
/// far beyond any crystal (0.01 %) and any NTP slewing (0.05 %).
pub fn lease(promise: Duration) -> Duration {
    promise / 100 * 99
}

/// How often a primary sends an append, with or without entries. Less than a quarter of the promise: three may be lost.
pub const HEARTBEAT: Duration = Duration::from_millis(20);

/// Silence of the peer after which it counts as missing. Above [`PROMISE_MAX`], or a missing primary would be suspected in vain.
pub const MISS: Duration = Duration::from_millis(300);

/// Silence after which a primary counts its secondary as missing. Before the secondary, in its turn, misses the primary
/// ([`MISS`]): when only the link is cut, the primary is to be the one who goes on, and roles do not change.
pub const SECONDARY_MISS: Duration = Duration::from_millis(200);

/// An appliance that runs this much later than it wanted to was held up itself. Well above a scheduler's usual delay.
pub const LATE: Duration = Duration::from_millis(20);

/// A broken connection counts as a missing secondary after this time: long enough for a new connection after a hiccup, short
/// enough that a killed secondary costs writers little.
pub const LOST: Duration = Duration::from_millis(100);

/// A log that does not grow on its disk for so long, though there is something to write, is stuck: its appliance is as good as
/// missing. Three times the stalls that disks are known for (a cache that is flushed, a snapshot, a bus that is reset): those are
/// sat out, as a pair that loses its second copy each time would be worth less than the writes of a second.
pub const STUCK: Duration = Duration::from_secs(3);

/// How often an appliance that is not primary tells a silent or idle peer where it stands.
pub const FIRM_INTERVAL: Duration = Duration::from_millis(100);

/// How often the witness is read in steady state, by the primary alone: late notes, lost records and a silent witness are
/// seen within this time. One witness serves 100,000 pairs, and requests to object stores cost money.
pub const WITNESS_INTERVAL: Duration = Duration::from_secs(15);

/// How often a witness that did not answer is asked in steady state.
pub const WITNESS_AGAIN: Duration = Duration::from_secs(5);

/// How often the witness is read while something hangs on it (a promotion, a shutdown, a wait).
pub const WITNESS_RETRY: Duration = Duration::from_millis(250);

/// How often an appliance that waits looks at the witness for news.
pub const WITNESS_WAIT: Duration = Duration::from_secs(1);

/// After this long without an answer a witness request counts as [`crate::input::WitnessWrite::Unknown`] even if the driver
/// says nothing; drivers use a shorter deadline.
pub const WITNESS_DEADLINE: Duration = Duration::from_secs(3);

/// How long a proposal waits for the peer's answer before it is repeated or given up.
pub const PROPOSAL_RETRY: Duration = Duration::from_millis(150);

/// How long a primary tries to agree with its peer on another witness. An appliance that has agreed and does not know the outcome
/// cannot go on by itself, so this is long enough for a slow disk and no longer.
pub const MOVE: Duration = Duration::from_secs(2);

/// How long the less preferred of two starting appliances that see each other leaves the first move to the other.
pub const COLD_START_COURTESY: Duration = Duration::from_millis(600);

/// How long a soft shutdown may take in all before the appliance stops without more.
pub const SHUTDOWN: Duration = Duration::from_secs(10);

/// How long a shutdown waits for a witness that does not answer.
pub const SHUTDOWN_WITNESS: Duration = Duration::from_secs(2);

/// How long a handover waits for the peer before the primary takes its writes back (or shuts down as solo).
pub const HANDOVER: Duration = Duration::from_secs(2);

/// How long a new primary leaves the old one's note at the witness while the old one is still connected.
pub const NOTE_GRACE: Duration = Duration::from_secs(2);

/// Entries in flight to the peer beyond what it has acknowledged.
pub const WINDOW_ENTRIES: u64 = 16_384;

/// Bytes of commands in one append: one network write, one fsync at the peer.
pub const APPEND_BYTES: u64 = 1 << 20;

/// Bytes of commands in flight to the peer beyond what it has acknowledged. Heartbeats queue behind them, so on a link slower
/// than 200 Mbit/s a saturated pair may lose its read lease for moments (reads wait, nothing is wrong).
pub const WINDOW_BYTES: u64 = 4 << 20;

/// A secondary this close behind a busy solo primary is let catch up by holding back acknowledgements for a round trip;
/// otherwise it would run after the last LSN for ever.
pub const REJOIN_GAP_ENTRIES: u64 = 4_096;

/// Entries kept in the log below the checkpoint, so that a peer that was away for a short time needs no full copy.
pub const RETAIN_ENTRIES: u64 = 100_000;

/// A refilled witness starts this far above the highest revision this appliance has seen: above any that the peer has seen,
/// for which it may have a conditional write under way. More writes than this never happen between two looks.
pub const REFILL_GAP: u64 = 1 << 20;
