//! What clients may do, under etcd's names: read from text, checked, told with what is allowed.

use std::time::Duration;

use crate::auto_compaction::AutoCompaction;

/// Largest limit on requests that can be chosen, in bytes. A write with what belongs to it has to fit into what is sent to
/// the peer at once.
const MAX_REQUEST_BYTES_LIMIT: u64 = 3 << 20;

/// Smallest limit on requests that can be chosen, in bytes: a Kubernetes object or two.
const MIN_REQUEST_BYTES_LIMIT: u64 = 1 << 10;

/// Most operations in a transaction that can be chosen: one is applied under one hold of the store's lock.
const MAX_TXN_OPS_LIMIT: u64 = 100_000;

/// Longest time that can be chosen anywhere here.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Checked limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
    /// Most operations in each part of a transaction.
    pub max_txn_ops: usize,
    /// Streams that one connection may have open.
    pub max_concurrent_streams: u32,
    /// A connection that is quiet for this long is asked whether it still lives.
    pub keepalive_interval: Duration,
    /// A connection that does not answer for this long is closed.
    pub keepalive_timeout: Duration,
    /// What is kept when history is compacted by itself; `None`: it is not.
    pub auto_compaction: Option<AutoCompaction>,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            // etcd's default, 1.5 MiB.
            max_request_bytes: 1_572_864,
            max_txn_ops: duet_mvcc::DEFAULT_MAX_TXN_OPERATIONS,
            // etcd has no limit; its clients put every watch on one connection.
            max_concurrent_streams: 16_384,
            // etcd's default of two hours leaves a dead client's streams and watches for as long.
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(20),
            auto_compaction: None,
        }
    }
}

/// A value that is not allowed: which field, and what is.
pub(crate) type Wrong = (&'static str, String);

impl ClientLimits {
    /// Room for gRPC around the largest request: larger messages are not read at all. As in etcd.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes + 512 * 1024
    }
}

/// The limits as written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written<'a> {
    pub max_request_bytes: Option<u64>,
    pub max_txn_ops: Option<u64>,
    pub max_concurrent_streams: Option<u64>,
    pub keepalive_interval: Option<&'a str>,
    pub keepalive_timeout: Option<&'a str>,
    pub auto_compaction_mode: Option<&'a str>,
    pub auto_compaction_retention: Option<&'a str>,
}

impl Written<'_> {
    pub(crate) fn check(self) -> Result<ClientLimits, Wrong> {
        let defaults = ClientLimits::default();
        let bytes = number(
            "max_request_bytes",
            self.max_request_bytes.unwrap_or(defaults.max_request_bytes as u64),
            MIN_REQUEST_BYTES_LIMIT,
            MAX_REQUEST_BYTES_LIMIT,
        )?;
        let operations = number(
            "max_txn_ops",
            self.max_txn_ops.unwrap_or(defaults.max_txn_ops as u64),
            1,
            MAX_TXN_OPS_LIMIT,
        )?;
        let streams = number(
            "max_concurrent_streams",
            self.max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams.into()),
            1,
            u32::MAX.into(),
        )?;
        let time = |field, written: Option<&str>, default| match written {
            Some(text) => duration(text)
                .filter(|time| (Duration::from_millis(1)..=LONGEST).contains(time))
                .ok_or((field, "use a time such as \"10s\", \"5m\" or \"2h\", at most a year".to_owned())),
            None => Ok(default),
        };
        Ok(ClientLimits {
            max_request_bytes: usize::try_from(bytes).unwrap_or(defaults.max_request_bytes),
            max_txn_ops: usize::try_from(operations).unwrap_or(defaults.max_txn_ops),
            max_concurrent_streams: u32::try_from(streams).unwrap_or(u32::MAX),
            keepalive_interval: time(
                "grpc_keepalive_interval",
                self.keepalive_interval,
                defaults.keepalive_interval,
            )?,
            keepalive_timeout: time(
                "grpc_keepalive_timeout",
                self.keepalive_timeout,
                defaults.keepalive_timeout,
            )?,
            auto_compaction: self.auto_compaction()?,
        })
    }

    /// As in etcd: without a mode a period, a number without a unit is hours, 0 is off.
    fn auto_compaction(self) -> Result<Option<AutoCompaction>, Wrong> {
        const FIELD: &str = "auto_compaction_retention";
        let text = self.auto_compaction_retention.unwrap_or("0");
        let plain = text.parse::<u64>().ok();
        match self.auto_compaction_mode.unwrap_or("periodic") {
            "periodic" => {
                let hours = plain.and_then(|hours| hours.checked_mul(3600)).map(Duration::from_secs);
                let period = hours
                    .or_else(|| duration(text))
                    .filter(|period| period.is_zero() || (Duration::from_secs(1)..=LONGEST).contains(period));
                let allowed = "use hours, or a time such as \"30m\", from a second to a year; \"0\" is off";
                let period = period.ok_or_else(|| (FIELD, allowed.to_owned()))?;
                Ok((!period.is_zero()).then_some(AutoCompaction::Period(period)))
            }
            "revision" => {
                let kept = plain.and_then(|kept| i64::try_from(kept).ok());
                let kept =
                    kept.ok_or((FIELD, "use a number of revisions to keep; \"0\" is off".to_owned()))?;
                Ok((kept > 0).then_some(AutoCompaction::Revisions(kept)))
            }
            _ => Err(("auto_compaction_mode", "use \"periodic\" or \"revision\"".to_owned())),
        }
    }
}

fn number(field: &'static str, value: u64, least: u64, most: u64) -> Result<u64, Wrong> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err((field, format!("use a number from {least} to {most}")))
    }
}

/// A time as etcd's flags take it: numbers with units, such as "1h30m" or "1.5s".
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (amount, behind) = rest.split_at(unit_at);
        let unit_length = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, later) = behind.split_at(unit_length);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        if !amount.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        let part = Duration::try_from_secs_f64(amount.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = later;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_etcd_reads_them() {
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("300ms", Some(300)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-5s", None),
            ("5d", None),
            ("1e3s", None),
            ("10 s", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn nothing_written_is_the_default() {
        assert_eq!(Written::default().check(), Ok(ClientLimits::default()));
        assert_eq!(ClientLimits::default().max_message_bytes(), 2_097_152);
    }

    #[test]
    fn compaction_by_itself_is_written_as_in_etcd() {
        let rule = |mode, retention| {
            let written = Written {
                auto_compaction_mode: mode,
                auto_compaction_retention: Some(retention),
                ..Written::default()
            };
            written.check().map(|limits| limits.auto_compaction)
        };
        let hours = |hours| Ok(Some(AutoCompaction::Period(Duration::from_hours(hours))));
        assert_eq!(rule(None, "3"), hours(3));
        assert_eq!(rule(Some("periodic"), "72h"), hours(72));
        assert_eq!(rule(Some("periodic"), "0"), Ok(None));
        assert_eq!(rule(Some("revision"), "1000"), Ok(Some(AutoCompaction::Revisions(1_000))));
        assert_eq!(rule(Some("revision"), "0"), Ok(None));
        for (mode, retention, field) in [
            (Some("revision"), "1h", "auto_compaction_retention"),
            (Some("revision"), "-1", "auto_compaction_retention"),
            (None, "1x", "auto_compaction_retention"),
            (None, "10ms", "auto_compaction_retention"),
            (None, "9999999999", "auto_compaction_retention"),
            (Some("never"), "1", "auto_compaction_mode"),
        ] {
            assert_eq!(rule(mode, retention).map_err(|(field, _)| field), Err(field), "{mode:?} {retention}");
        }
    }

    #[test]
    fn wrong_values_are_told_with_what_is_allowed() {
        let wrong = |written: Written<'_>| written.check().unwrap_err();
        let (field, allowed) = wrong(Written { max_request_bytes: Some(10 << 20), ..Written::default() });
        assert_eq!((field, allowed.as_str()), ("max_request_bytes", "use a number from 1024 to 3145728"));
        assert_eq!(wrong(Written { max_txn_ops: Some(0), ..Written::default() }).0, "max_txn_ops");
        let streams = Written { max_concurrent_streams: Some(1 << 32), ..Written::default() };
        assert_eq!(wrong(streams).0, "max_concurrent_streams");
        let interval = Written { keepalive_interval: Some("soon"), ..Written::default() };
        assert_eq!(wrong(interval).0, "grpc_keepalive_interval");
        let timeout = Written { keepalive_timeout: Some("0s"), ..Written::default() };
        assert_eq!(wrong(timeout).0, "grpc_keepalive_timeout");
    }
}
