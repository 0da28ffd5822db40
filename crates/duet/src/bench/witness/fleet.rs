//! The pairs that a witness server is measured with: their names, tokens and records.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use duet_protocol::{ApplianceId, ClusterId, Conf, DiskId, Epoch, PerAppliance, WitnessRecord};
use duet_witness::client::ServerRegister;
use duet_witness::server::{BackupWriter, restore};
use duet_witness::{ClusterName, Credential, Token, record};

use crate::error::{Failure, io_words};

/// Very many pairs, each registered and with a record.
pub struct Fleet {
    pairs: Vec<(ClusterName, Token)>,
}

impl Fleet {
    /// Draws their tokens and makes the data of a server that knows them.
    pub fn make(number: usize, dir: &Path) -> Result<Self, Failure> {
        let file = dir.with_extension("backup");
        let failed = |what: &dyn std::fmt::Display| {
            Failure::new(format!("{}: {what}", file.display()), "give another --dir DIR")
        };
        let pairs = (0..number).map(|pair| {
            let name: ClusterName = format!("pair-{pair}").parse().map_err(|error| failed(&error))?;
            Ok((name, Token::draw().map_err(|error| failed(&error))?))
        });
        let pairs = pairs.collect::<Result<Vec<_>, Failure>>()?;
        let write = || -> std::io::Result<()> {
            let mut backup = BackupWriter::new(BufWriter::new(File::create(&file)?))?;
            for (name, token) in &pairs {
                backup.pair(name, token)?;
            }
            for (name, _) in &pairs {
                backup.record(name, content(name, 1))?;
            }
            backup.end().map(drop)
        };
        write().map_err(|error| failed(&io_words(&error)))?;
        restore(&file, dir, true).map_err(|error| failed(&error))?;
        std::fs::remove_file(&file).map_err(|error| failed(&io_words(&error)))?;
        Ok(Self { pairs })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The name of one.
    pub fn name(&self, pair: usize) -> &ClusterName {
        &self.pairs[pair].0
    }

    /// The register of one, as its appliances have it.
    pub fn register(&self, pair: usize, address: &str, deadline: Duration) -> ServerRegister {
        let (name, token) = &self.pairs[pair];
        ServerRegister::new(address, name.clone(), Credential::Token(token.clone()), deadline)
    }
}

/// A record as appliances write it.
pub fn content(name: &ClusterName, revision: u64) -> Bytes {
    let disks = PerAppliance { a: DiskId(u128::MAX - 1), b: DiskId(u128::MAX - 2) };
    let record = WitnessRecord {
        cluster: ClusterId(u64::MAX),
        revision,
        writer: ApplianceId::A,
        conf: Conf::pair(Epoch(revision), ApplianceId::A, disks),
        part: None,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    };
    record::encode(name, &record)
}
