//! What the appliances are told before they start: configuration files, environment, failpoints.

use std::path::{Path, PathBuf};

use duet_protocol::ApplianceId;

use super::super::client::Client;
use super::super::proxy::Proxy;
use super::super::tap::Tap;
use super::{A, CLUSTER, Pair, Witness, letter};

impl Pair {
    pub(super) fn write_config(&self, appliance: ApplianceId) {
        std::fs::write(self.config_path(appliance), self.config_text(appliance)).unwrap();
    }

    pub(super) fn write_configs(&self) {
        for appliance in ApplianceId::ALL {
            self.write_config(appliance);
        }
    }

    /// The text of an appliance's configuration file.
    pub fn config_text(&self, appliance: ApplianceId) -> String {
        let own = self.ports.get(appliance);
        let (host, peer_host) = (&self.places.of(appliance).host, &self.places.of(appliance.peer()).host);
        let lines = self.lines.as_ref().map(|lines| lines.get(appliance));
        let peer = lines.map_or(self.ports.get(appliance.peer()).peer.number, |lines| lines.peer.port());
        let witness = match self.witness {
            _ if self.own_witness.is_some() => self.witness_url(),
            Witness::Directory => format!("dir:{}", self.witness_link(appliance).display()),
            Witness::Server => {
                let proxy = lines.and_then(|lines| lines.witness.as_ref().map(Proxy::port));
                let tap = self.tap.as_ref().map(Tap::port);
                match tap.or(proxy) {
                    Some(port) => format!("http://127.0.0.1:{port}"),
                    None => format!("http://{}:{}", self.places.witness.host, self.witness_port.number),
                }
            }
        };
        let client_url = lines.map_or_else(String::new, |lines| {
            format!("client_url = \"http://127.0.0.1:{}\"\n", lines.forwarded.port())
        });
        format!(
            "cluster = \"{CLUSTER}\"\nappliance = \"{appliance}\"\ndata = \"{}\"\nclient_listen = \"{host}:{}\"\n\
             peer_listen = \"{host}:{}\"\npeer = \"{peer_host}:{peer}\"\nwitness = \"{witness}\"\n{client_url}{}",
            self.data(appliance).display(),
            own.client.number,
            own.peer.number,
            self.extra,
        )
    }

    /// Both appliances use this witness, which the test runs; before the pair is started.
    pub fn use_witness(&mut self, url: &str) {
        self.own_witness = Some(url.to_owned());
        self.write_configs();
    }

    /// Adds a line to both configuration files, for the next starts.
    pub fn configure(&mut self, line: &str) {
        self.extra.push_str(line);
        self.extra.push('\n');
        self.write_configs();
    }

    /// The configuration file.
    pub fn config_path(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("{}.toml", letter(appliance)))
    }

    /// The data directory.
    pub fn data(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(letter(appliance))
    }

    /// Where files of the test may go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where clients reach an appliance.
    pub fn client_url(&self, appliance: ApplianceId) -> String {
        format!("http://{}:{}", self.places.of(appliance).host, self.ports.get(appliance).client.number)
    }

    /// The etcd client of an appliance.
    pub fn client(&self, appliance: ApplianceId) -> &Client {
        self.clients.get(appliance)
    }

    /// The next start of an appliance goes through this command.
    pub fn set_enter(&mut self, appliance: ApplianceId, enter: Vec<String>) {
        self.places.of_mut(appliance).enter = enter;
    }

    /// Environment of the next start of an appliance.
    pub fn set_environment(&mut self, appliance: ApplianceId, name: &str, value: &str) {
        let environment = self.environment.get_mut(appliance);
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
    }

    /// The next start has none.
    pub fn clear_environment(&mut self, appliance: ApplianceId) {
        self.environment.get_mut(appliance).clear();
    }

    /// The file that arms an appliance's failpoints; it has to be named in the environment of its start.
    fn failpoint_file(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("failpoint-{}", letter(appliance)))
    }

    /// Lets `arm` and `disarm` work, from the next start on, and gives both disks under which the power can fail.
    pub fn make_armable(&mut self) {
        for appliance in ApplianceId::ALL {
            let file = self.failpoint_file(appliance).display().to_string();
            self.set_environment(appliance, "DUET_FAILPOINT_FILE", &file);
            self.set_environment(appliance, "DUET_POWER", "1");
        }
    }

    /// Arms failpoints, at this moment; `text` is what `DUET_FAILPOINT` takes.
    pub fn arm(&self, appliance: ApplianceId, text: &str) {
        let file = self.failpoint_file(appliance);
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Disarms them.
    pub fn disarm(&self, appliance: ApplianceId) {
        std::fs::remove_file(self.failpoint_file(appliance)).ok();
    }
}
