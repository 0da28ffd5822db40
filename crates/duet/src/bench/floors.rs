//! What the machine itself can do, probed in the same run: a durable write and a loopback round trip. A latency means
//! something only beside these two.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::report::{Latency, Recorder};
use crate::error::{Failure, io_words};

/// One block, the least that a disk writes.
const BLOCK: usize = 4096;
/// Blocks written beforehand: fdatasync of a written block need not allocate or grow anything.
const BLOCKS: u64 = 256;
/// Enough to be more than the disk's own memory hides, little enough for a moment.
const SEQUENTIAL_MIB: u32 = 256;
/// Enough for a p99.
const PROBES: u64 = 400;
/// Probes are spaced like requests from idle: back to back, a round trip finds its partner still awake.
const PAUSE: Duration = Duration::from_millis(1);

/// The two floors.
#[derive(Clone, Debug, Serialize)]
pub struct Floors {
    /// `fdatasync` of 4 KiB into written blocks, milliseconds.
    pub fsync_ms: Latency,
    /// A round trip of one small message over loopback, each from idle, milliseconds.
    pub round_trip_ms: Latency,
}

/// Probes both; the disk is the one below `dir`. Takes about a second.
pub fn probe(dir: &Path) -> Result<Floors, Failure> {
    let fsync = fsyncs(&dir.join("fsync.probe")).map_err(|error| {
        Failure::new(format!("{}: {}", dir.display(), io_words(&error)), "give another --dir DIR")
    })?;
    let round_trip = round_trips()
        .map_err(|error| Failure::new(format!("loopback: {}", io_words(&error)), "try again"))?;
    Ok(Floors { fsync_ms: fsync.latency(), round_trip_ms: round_trip.latency() })
}

/// What the disk below `dir` takes when it is written in order, in MiB/s.
pub fn sequential(dir: &Path) -> Result<f64, Failure> {
    let path = dir.join("sequential.probe");
    let written = write_in_order(&path);
    std::fs::remove_file(&path).ok();
    let seconds = written.map_err(|error| {
        Failure::new(format!("{}: {}", dir.display(), io_words(&error)), "give another --dir DIR")
    })?;
    Ok(f64::from(SEQUENTIAL_MIB) / seconds.as_secs_f64().max(1e-9))
}

fn write_in_order(path: &Path) -> std::io::Result<Duration> {
    let mut file = std::fs::File::create(path)?;
    let piece = vec![0x5a_u8; 1 << 20];
    let start = Instant::now();
    for _ in 0..SEQUENTIAL_MIB {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(start.elapsed())
}

fn fsyncs(path: &Path) -> std::io::Result<Recorder> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).read(true).open(path)?;
    let block = [0x5a_u8; BLOCK];
    for index in 0..BLOCKS {
        file.write_all_at(&block, index * BLOCK as u64)?;
    }
    file.sync_all()?;
    let mut recorder = Recorder::new();
    for index in 0..PROBES {
        let start = Instant::now();
        file.write_all_at(&block, (index % BLOCKS) * BLOCK as u64)?;
        file.sync_data()?;
        recorder.success(start.elapsed(), Instant::now());
    }
    std::fs::remove_file(path)?;
    Ok(recorder)
}

fn round_trips() -> std::io::Result<Recorder> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0_u8; 1];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut recorder = Recorder::new();
    let mut byte = [1_u8; 1];
    for _ in 0..PROBES {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        recorder.success(start.elapsed(), Instant::now());
    }
    drop(stream);
    echo.join().ok();
    Ok(recorder)
}
