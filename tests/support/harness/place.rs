//! Where the processes of a pair run.

use duet_protocol::ApplianceId;

/// Where a process runs.
#[derive(Clone)]
pub struct Place {
    /// Its address, seen from everywhere.
    pub host: String,
    /// A command that runs another one there; none: as it is.
    pub enter: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), enter: Vec::new() }
    }
}

/// Of both appliances and the witness.
#[derive(Clone, Default)]
pub struct Places {
    pub a: Place,
    pub b: Place,
    pub witness: Place,
}

impl Places {
    pub fn of(&self, appliance: ApplianceId) -> &Place {
        match appliance {
            ApplianceId::A => &self.a,
            ApplianceId::B => &self.b,
        }
    }

    pub fn of_mut(&mut self, appliance: ApplianceId) -> &mut Place {
        match appliance {
            ApplianceId::A => &mut self.a,
            ApplianceId::B => &mut self.b,
        }
    }
}
