//! An appliance from its start to its end: opens the data, starts the machine room and the client port, waits for the end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;
use std::time::Duration;

use duet_protocol::{Appliance, ApplianceId, ClusterId, DiskId, Instant, OwnState, RecoveredLog};
use duet_storage::{DataDir, Parts};
use duet_witness::register::DEFAULT_DEADLINE;
use duet_witness::{ClusterName, ReadOutcome, Register, record};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::client_port::{self, ClientPortOptions};
use crate::clock;
use crate::config::Config;
use crate::data::{DataError, Place, draw_disk};
use crate::driver::Driver;
use crate::error::{ExitReason, Remedy, StartError};
use crate::fatal::Fate;
use crate::handle::{Handle, Identity, Inner, PermitCell};
use crate::http::admin;
use crate::inbox::Inbox;
use crate::log_writer::{LogQueue, LogWriter};
use crate::peer::board::PeerBoard;
use crate::peer::copy::{CopyReceiver, CopySender};
use crate::peer::hello::{Hello, Purpose};
use crate::peer::link::{self, Link};
use crate::publisher::Publisher;
use crate::space::{LARGE_QUOTA_BYTES, Space};
use crate::state::{Machine, MachineParts};
use crate::tail::Tail;
use crate::witness_port::{WitnessBoard, WitnessPort};

/// Pause between two attempts of a blank appliance to find out which pair it belongs to.
const IDENTIFY_PAUSE: Duration = Duration::from_millis(500);

/// After so many attempts in vain a blank appliance says again in the log that it waits.
const IDENTIFY_ATTEMPTS_PER_LINE: u32 = 20;

/// How long the threads may take to finish after a soft shutdown: the last entries are applied and checkpointed.
const FINISH: Duration = Duration::from_secs(10);

/// Pause between two looks whether the last threads have gone.
const LAST_THREADS: Duration = Duration::from_millis(1);

/// How long the client port may take to end its connections after that.
const FINISH_CLIENTS: Duration = Duration::from_secs(3);

/// A running appliance.
pub struct Server {
    handle: Handle,
    fate: Fate,
    link: Arc<Link>,
    peer_address: SocketAddr,
    client_address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    data: Arc<DataDir>,
    client_port: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts an appliance. A blank one waits here until it has found out which pair it belongs to.
    ///
    /// # Errors
    /// What a person has to correct.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        let name = config.cluster.parse::<ClusterName>().map_err(|error| StartError::Witness {
            witness: config.witness.to_string(),
            reason: error.to_string(),
        })?;
        let register: Arc<dyn Register> =
            config.witness.register(name.clone(), &config.witness_access, DEFAULT_DEADLINE).into();
        make_if_blank(&config, &name, register.as_ref()).await?;
        let opened = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || open(&config)).await
        };
        let (data, parts) = opened.unwrap_or_else(|broke| {
            let reason = format!("opening the data broke: {broke}");
            Err(StartError::Storage { reason, remedy: Remedy::CorrectTheCause })
        })?;
        Room::build(config, name, register, data, parts)?.start(listeners)
    }

    /// The door to this appliance.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where clients are listened for.
    pub const fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Waits for the end: a soft shutdown that is complete, or a failure that the appliance does not survive. After a failure
    /// the process must end at once; this does not wait for threads then.
    pub async fn wait(self) -> ExitReason {
        let mut exit = self.fate.exit();
        let reason = match exit.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Stopped),
            Err(_) => ExitReason::Fatal("the machine room is gone".to_owned()),
        };
        let (link, address, threads, data) = (self.link, self.peer_address, self.threads, self.data);
        let finish = tokio::task::spawn_blocking(move || {
            link.close(address);
            for thread in threads {
                let _ = thread.join();
            }
            drop(link);
            // The directory's lock is free once the last connection's thread has gone.
            while Arc::strong_count(&data) > 1 {
                std::thread::sleep(LAST_THREADS);
            }
        });
        if let ExitReason::Fatal(_) = reason {
            self.client_port.abort();
            return reason;
        }
        if tokio::time::timeout(FINISH, finish).await.is_err() {
            tracing::warn!("the last checkpoint takes too long: the next start replays the log instead");
        }
        if tokio::time::timeout(FINISH_CLIENTS, self.client_port).await.is_err() {
            tracing::warn!("some clients' connections did not end in time");
        }
        // A failure on the last yards counts.
        let last = exit.borrow_and_update().clone();
        last.unwrap_or(reason)
    }
}

/// The two ports, taken before anything else so that a mistake shows at once.
struct Listeners {
    client: TcpListener,
    client_address: SocketAddr,
    peer: TcpListener,
    peer_address: SocketAddr,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = |address: SocketAddr, what| {
            let failed = |reason| StartError::Listen { address: address.to_string(), what, reason };
            let listener = TcpListener::bind(address).map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            Ok::<_, StartError>((listener, local))
        };
        let (client, client_address) = bind(config.client_listen, "client_listen")?;
        let (peer, peer_address) = bind(config.peer_listen, "peer_listen")?;
        Ok(Self { client, client_address, peer, peer_address })
    }
}

impl From<DataError> for StartError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Wrong(wrong) => Self::WrongData(wrong),
            DataError::Storage { reason, remedy } => Self::Storage { reason, remedy },
        }
    }
}

fn open(config: &Config) -> Result<(DataDir, Parts), StartError> {
    let (data, _) = Place::new(config).open()?;
    let parts = Place::recover(&data)?;
    Ok((data, parts))
}

/// Makes a blank appliance's data directory as soon as it is known which pair it belongs to.
async fn make_if_blank(
    config: &Config,
    name: &ClusterName,
    register: &dyn Register,
) -> Result<(), StartError> {
    let place = Place::new(config);
    if !place.is_blank()? {
        return Ok(());
    }
    place.probe()?;
    let disk = draw_disk();
    if let Some(cluster) = identify(config, name, register, disk).await? {
        match place.create(cluster, disk) {
            Ok(_) => return Ok(()),
            Err(error) if place.is_blank()? => return Err(error.into()),
            Err(_) => {}
        }
    }
    tracing::info!("`duet init` has been run here meanwhile");
    // It may hold the directory's lock for a moment longer.
    tokio::time::sleep(IDENTIFY_PAUSE).await;
    Ok(())
}

/// Which pair a blank appliance belongs to: the witness's record says so, or the peer does. `None`: it is blank no more.
async fn identify(
    config: &Config,
    name: &ClusterName,
    register: &dyn Register,
    disk: DiskId,
) -> Result<Option<ClusterId>, StartError> {
    let me = Hello {
        purpose: Purpose::Identify,
        cluster_name: config.cluster.clone(),
        cluster: None,
        appliance: config.appliance,
        disk,
        client_url: config.client_url.clone(),
    };
    for attempt in 0_u32.. {
        let from_witness = match register.read().await {
            ReadOutcome::Record { bytes, .. } => match record::decode(name, None, &bytes) {
                Ok(record) => return Ok(Some(record.cluster)),
                Err(error) => error.to_string(),
            },
            ReadOutcome::Absent => "the witness has no record of this pair".to_owned(),
            ReadOutcome::Unknown(reason) => reason.to_string(),
        };
        let (peer, hello) = (config.peer.clone(), me.clone());
        let asked = tokio::task::spawn_blocking(move || link::dial(&peer, &hello)).await;
        let from_peer = match asked {
            Ok(Ok((_, Hello { cluster: Some(cluster), .. }))) => return Ok(Some(cluster)),
            Ok(Ok(_)) => "the peer is blank too".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(broke) => broke.to_string(),
        };
        if attempt.is_multiple_of(IDENTIFY_ATTEMPTS_PER_LINE) {
            tracing::warn!(
                "this appliance is blank and waits until it finds out which pair it belongs to ({from_witness}; {from_peer}). \
                 A new pair is made by `duet init` on one of the two appliances"
            );
        }
        tokio::time::sleep(IDENTIFY_PAUSE).await;
        if !Place::new(config).is_blank()? {
            return Ok(None);
        }
    }
    unreachable!("it asks for ever")
}

/// Everything between opening the data and starting the threads.
struct Room {
    config: Config,
    name: ClusterName,
    register: Arc<dyn Register>,
    parts: Parts,
    inner: Inner,
    fate: Fate,
    tail: Arc<Tail>,
    machine: Arc<Machine>,
    link: Arc<Link>,
    copies: Arc<CopySender>,
    board: Arc<PeerBoard>,
    data: Arc<DataDir>,
    /// When it was certain that no earlier process works with the data any more.
    former_life_ended: Instant,
}

impl Room {
    fn build(
        config: Config,
        name: ClusterName,
        register: Arc<dyn Register>,
        data: DataDir,
        parts: Parts,
    ) -> Result<Self, StartError> {
        // The directory's lock is ours, so whoever worked here before has ended.
        let former_life_ended = clock::now();
        let OwnState { cluster, appliance, disk, .. } = parts.own_state;
        let identity = Identity {
            cluster_name: config.cluster.clone(),
            cluster_id: cluster,
            appliance,
            disk,
            client_url: config.client_url.clone(),
        };
        let (permit, inbox) = (Arc::<PermitCell>::default(), Arc::<Inbox>::default());
        let fate = Fate::new(permit.clone(), inbox.clone());
        let tail = Arc::new(Tail::new(parts.recovered.last().lsn));
        let data = Arc::new(data);
        let space = Arc::new(Space::new(config.quota_bytes));
        if config.quota_bytes.is_some_and(|quota| quota > LARGE_QUOTA_BYTES) {
            tracing::warn!("quota_backend_bytes is above 8 GiB: starts and whole copies will take long");
        }
        let machine = MachineParts {
            space: space.clone(),
            permit: permit.clone(),
            inbox: inbox.clone(),
            tail: tail.clone(),
            log: parts.log.reader(),
            data: data.clone(),
            state: parts.store.clone(),
        };
        let machine = Machine::new(machine).map_err(|error| {
            let reason = format!("data directory {}: {error}", config.data.display());
            StartError::Storage { reason, remedy: error.remedy() }
        })?;
        let me = Hello {
            purpose: Purpose::Messages,
            cluster_name: config.cluster.clone(),
            cluster: Some(cluster),
            appliance,
            disk,
            client_url: config.client_url.clone(),
        };
        let board = Arc::<PeerBoard>::default();
        let copies = CopySender {
            me: me.clone(),
            peer: config.peer.clone(),
            state: parts.store.clone(),
            inbox: inbox.clone(),
            fate: fate.clone(),
            superseded: Mutex::new(Arc::new(AtomicBool::new(true))),
            progress: Arc::default(),
            rate: config.copy_rate,
        };
        let link = Link {
            me,
            peer: config.peer.clone(),
            board: board.clone(),
            inbox: inbox.clone(),
            fate: fate.clone(),
            tail: tail.clone(),
            log: parts.log.reader(),
            copies: CopyReceiver::new(data.clone()),
            current: Mutex::default(),
            turn: Mutex::default(),
            handshakes: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        };
        let machine = Arc::new(machine);
        let inner = Inner {
            space,
            machine: Arc::downgrade(&machine),
            view: watch::Sender::new(Publisher::first_view(&identity)),
            identity,
            inbox,
            store: machine.store.clone(),
            permit,
            event_sink: machine.event_sink.clone(),
            waiters: machine.waiters.clone(),
            metrics: machine.metrics.clone(),
            users_are_on: machine.users_are_on.clone(),
            progress: machine.progress.clone(),
            reads: Arc::default(),
        };
        let (link, copies) = (Arc::new(link), Arc::new(copies));
        Ok(Self {
            config,
            name,
            register,
            parts,
            inner,
            fate,
            tail,
            machine,
            link,
            copies,
            board,
            data,
            former_life_ended,
        })
    }

    fn start(self, listeners: Listeners) -> Result<Server, StartError> {
        let Self {
            config,
            name,
            register,
            parts,
            inner,
            fate,
            tail,
            machine,
            link,
            copies,
            board,
            data,
            former_life_ended,
        } = self;
        let inbox = inner.inbox.clone();
        let queue = Arc::<LogQueue>::default();
        let mut threads = Vec::from(machine.start(&fate)?);
        let log =
            LogWriter::start(parts.log, queue.clone(), tail.clone(), inbox.clone(), machine.clone(), &fate)?;
        threads.push(log);
        let witness_board = Arc::<WitnessBoard>::default();
        let (witness, work) =
            WitnessPort::new(register, name, inner.identity.cluster_id, inbox.clone(), witness_board.clone());
        // A thread of its own: a promotion never waits behind clients' requests.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|reason| StartError::Thread { name: "witness", reason })?;
        fate.spawn_plain("witness", move || runtime.block_on(work))?;
        let publisher = Publisher {
            identity: inner.identity.clone(),
            data_dir: config.data.display().to_string(),
            witness_url: config.witness.clone(),
            view: inner.view.clone(),
            revision: machine.revision.clone(),
            peer: board,
            witness: witness_board,
            copy: copies.progress.clone(),
            role_since: clock::now(),
            explanation: None,
            published: None,
            metrics: machine.metrics.clone(),
            last_primary: None,
        };
        let recovered = RecoveredLog { base: parts.recovered.base, stamps: parts.recovered.stamps };
        let applied = parts.store.applied().lsn;
        let (permit, reads) = (inner.permit.clone(), inner.reads.clone());
        let handle = Handle { inner: Arc::new(inner) };
        let (its_fate, its_link) = (fate.clone(), link.clone());
        let (appliance, client_url) = (config.appliance, config.client_url.clone());
        // The core is made on its own thread: a violated invariant is a panic, and that thread's panics are reported.
        let drive = move || {
            let mut core =
                Appliance::recover(rand::random(), parts.own_state, recovered, applied, clock::now());
            core.former_life_ended(former_life_ended);
            let driver = Driver {
                core,
                own_state: parts.own_state_file,
                inbox,
                tail,
                log: queue,
                machine,
                link: its_link,
                copies,
                witness,
                permit,
                reads,
                publisher,
                fate: its_fate,
                proposed: std::collections::VecDeque::new(),
                outgoing: Vec::new(),
                stopping: false,
                retain_entries: config.retain_entries,
            };
            driver.run()
        };
        threads.push(fate.spawn("driver", drive)?);
        threads.extend(start_link(&link, listeners.peer, &fate)?);
        let options =
            ClientPortOptions { auth: config.auth, limits: config.limits, ..ClientPortOptions::default() };
        let client_port = start_client_port(listeners.client, &handle, &fate, options).map_err(|reason| {
            StartError::Listen {
                address: listeners.client_address.to_string(),
                what: "client_listen",
                reason,
            }
        })?;
        tracing::info!(
            "appliance {appliance} of cluster \"{}\" has started; clients: {client_url}",
            handle.identity().cluster_name
        );
        let (peer_address, client_address) = (listeners.peer_address, listeners.client_address);
        Ok(Server { handle, fate, link, peer_address, client_address, threads, data, client_port })
    }
}

fn start_link(
    link: &Arc<Link>,
    listener: TcpListener,
    fate: &Fate,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let listening = link.clone();
    let mut threads = vec![fate.spawn_plain("peer-listen", move || listening.listen(&listener))?];
    if link.me.appliance == ApplianceId::A {
        let dialling = link.clone();
        threads.push(fate.spawn_plain("peer-dial", move || dialling.dial_for_ever())?);
    }
    Ok(threads)
}

fn start_client_port(
    listener: TcpListener,
    handle: &Handle,
    fate: &Fate,
    options: ClientPortOptions,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (handle, admin) = (handle.clone(), admin::router(handle.clone()));
    let mut exit = fate.exit();
    let stop = async move {
        let _ = exit.wait_for(Option::is_some).await;
    };
    Ok(tokio::spawn(client_port::serve(listener, handle, admin, options, stop)))
}
