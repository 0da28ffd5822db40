//! The appliances' processes: started, stopped softly, killed, waited for.

use std::ffi::OsString;
use std::process::ExitStatus;

use duet::process::{Program, Running};
use duet_protocol::ApplianceId;

use super::binary::launcher;
use super::{A, B, PATIENCE, Pair, Place, STATUS_DEADLINE, letter};

impl Pair {
    pub(super) fn program(&self, place: &Place, name: &str, log: &str, args: &[&str]) -> Program {
        let duet = launcher().duet().to_owned();
        let mut words = place.enter.iter().map(OsString::from).chain([duet.into_os_string()]);
        let path = words.next().expect("at least the binary").into();
        Program {
            name: name.into(),
            path,
            args: words.chain(args.iter().map(Into::into)).collect(),
            env: Vec::new(),
            log: self.dir.join(log),
        }
    }

    /// `duet init`, to its end.
    pub async fn try_init(
        &self,
        appliance: ApplianceId,
        environment: &[(&str, &str)],
    ) -> (ExitStatus, String) {
        let config = self.config_path(appliance).display().to_string();
        let place = self.places.of(appliance);
        let mut program = self.program(place, "duet init", "init.log", &["init", "--config", &config]);
        program.env = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut running = launcher().start(&program).unwrap();
        let status = running.wait(PATIENCE).await.expect("duet init ends");
        (status, running.output())
    }

    /// Makes the pair.
    pub async fn init(&self, appliance: ApplianceId) {
        let (status, output) = self.try_init(appliance, &[]).await;
        assert!(status.success(), "duet init: {status}: {output}");
    }

    /// Starts an appliance's process, and waits for nothing.
    pub fn launch(&mut self, appliance: ApplianceId) {
        assert!(self.appliances.get(appliance).is_none(), "{appliance} runs already");
        let config = self.config_path(appliance).display().to_string();
        let log = format!("{}.log", letter(appliance));
        let (place, name) = (self.places.of(appliance), format!("appliance {appliance}"));
        let mut program = self.program(place, &name, &log, &["serve", "--config", &config]);
        let environment = self.environment.get(appliance);
        program.env = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        *self.appliances.get_mut(appliance) = Some(launcher().start(&program).unwrap());
    }

    /// Starts an appliance and waits until it tells its status.
    pub async fn start_appliance(&mut self, appliance: ApplianceId) {
        self.launch(appliance);
        let probe = async || self.try_status(appliance).await.ok();
        self.until(&format!("{appliance} tells its status"), probe).await;
    }

    /// Starts both at once.
    pub async fn start_both(&mut self) {
        self.launch(A);
        self.launch(B);
        for appliance in ApplianceId::ALL {
            let probe = async || self.try_status(appliance).await.ok();
            self.until(&format!("{appliance} tells its status"), probe).await;
        }
    }

    /// The process.
    pub fn process(&mut self, appliance: ApplianceId) -> &mut Running {
        self.appliances.get_mut(appliance).as_mut().expect("the appliance was started")
    }

    /// Whether the process was started and has not ended.
    pub fn is_running(&mut self, appliance: ApplianceId) -> bool {
        self.appliances.get_mut(appliance).as_mut().is_some_and(|running| running.ended().is_none())
    }

    /// SIGTERM; the shutdown goes on by itself.
    pub fn begin_soft_stop(&mut self, appliance: ApplianceId) {
        self.process(appliance).terminate();
    }

    /// Waits for the end of a soft shutdown, which must be a clean one.
    pub async fn soft_stop_ends(&mut self, appliance: ApplianceId) {
        let status = self.ends(appliance).await;
        assert!(status.success(), "{appliance} did not stop cleanly: {status}\n{}", self.log(appliance));
    }

    /// A soft shutdown.
    pub async fn soft_stop(&mut self, appliance: ApplianceId) {
        self.begin_soft_stop(appliance);
        self.soft_stop_ends(appliance).await;
    }

    /// Starts an appliance that does not run (any more).
    pub async fn revive(&mut self, appliance: ApplianceId) {
        if !self.is_running(appliance) {
            *self.appliances.get_mut(appliance) = None;
            self.start_appliance(appliance).await;
        }
    }

    /// Waits for the end of a process, however it comes.
    pub async fn ends(&mut self, appliance: ApplianceId) -> ExitStatus {
        let ended = self.process(appliance).wait(PATIENCE).await;
        let Some(status) = ended else {
            let diagnosis = self.diagnosis().await;
            panic!("{appliance} does not end\n{diagnosis}");
        };
        *self.appliances.get_mut(appliance) = None;
        status
    }

    /// SIGKILL, and the end of the process.
    pub async fn crash(&mut self, appliance: ApplianceId) {
        self.process(appliance).kill();
        self.ends(appliance).await;
    }

    /// Gives an order that only this machine may give.
    pub async fn order(&self, appliance: ApplianceId, order: &str) -> Result<(), String> {
        let path = format!("/duet/v1/{order}");
        let answer = duet::http::post(&self.client_url(appliance), &path, STATUS_DEADLINE * 5).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    }

    /// What an appliance logged since it was started the last time; all of it if it does not run.
    pub fn log(&self, appliance: ApplianceId) -> String {
        match self.appliances.get(appliance) {
            Some(running) => running.output(),
            None => std::fs::read_to_string(self.dir.join(format!("{}.log", letter(appliance))))
                .unwrap_or_default(),
        }
    }
}
