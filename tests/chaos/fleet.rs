//! The managers of a round: replicas of one deployment, each registered anew, all of them behind
//! proxies that can be cut.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::{Proxy, Runner, RunnerOptions, RunnerPlacement, World};
use nix::sys::signal::Signal;
use reqwest::Url;

/// The key of all tickets: what managers have in common that register anew.
const SETTINGS: &str = "[gantry]\n  ticket_key = \"the-key-of-the-chaos-suite\"\n";

/// How long a manager may take that leaves its jobs, on a busy machine.
const LEAVING: Duration = Duration::from_secs(15);

/// Some managers, and the ways that lead out of them.
pub(crate) struct Fleet {
    world: Rc<World>,
    name: String,
    jobs: u32,
    place: Option<RunnerPlacement>,
    /// Those that run, the eldest first.
    managers: RefCell<Vec<Runner>>,
    /// One that was told to end.
    leaving: RefCell<Option<Runner>>,
    started: RefCell<u32>,
    /// Between everybody and GitLab.
    pub(crate) gitlab: Proxy,
    /// Between managers and the API server.
    pub(crate) kube: Proxy,
}

impl Fleet {
    /// A fleet of one manager.
    pub(crate) async fn start(world: &Rc<World>, name: &str, jobs: u32) -> anyhow::Result<Self> {
        let host = world.cluster().host;
        let gitlab = Proxy::start(host, address(world.gitlab.url())?).await?;
        // Managers are on this machine, and `localhost` is a name that API servers of tests have.
        let kube = Proxy::start(IpAddr::V4(Ipv4Addr::LOCALHOST), address(world.kube.url())?).await?;
        let mut fleet = Self {
            world: Rc::clone(world),
            name: name.to_owned(),
            jobs,
            place: None,
            managers: RefCell::default(),
            leaving: RefCell::default(),
            started: RefCell::new(0),
            gitlab,
            kube,
        };
        fleet.add().await?;
        fleet.place = Some(fleet.managers.borrow()[0].place());
        Ok(fleet)
    }

    /// One more, ready for jobs.
    pub(crate) async fn add(&self) -> anyhow::Result<()> {
        let manager = Runner::start(&self.world, &self.options()).await?;
        self.managers.borrow_mut().push(manager);
        Ok(())
    }

    /// One more, which may still be starting.
    pub(crate) async fn launch(&self) -> anyhow::Result<()> {
        let manager = Runner::launch(&self.world, &self.options()).await?;
        self.managers.borrow_mut().push(manager);
        Ok(())
    }

    fn options(&self) -> RunnerOptions {
        *self.started.borrow_mut() += 1;
        let name = format!("{}-{}", self.name, self.started.borrow());
        let gitlab = format!("http://{}", self.gitlab.address());
        let kube = format!("https://localhost:{}", self.kube.address().port());
        RunnerOptions {
            concurrent: self.jobs,
            global: SETTINGS.to_owned(),
            gitlab: Some(gitlab),
            kube: Some(kube),
            place: self.place.clone(),
            ..RunnerOptions::new(&name)
        }
    }

    /// Sends a signal to the eldest.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.managers.borrow().first().context("no manager")?.process.signal(signal)
    }

    /// Kills the eldest.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.managers.borrow_mut().remove(0);
        Ok(())
    }

    /// Tells the eldest to end, which takes a while.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let eldest = self.managers.borrow_mut().remove(0);
        self.leaving.replace(Some(eldest));
        Ok(())
    }

    /// Waits until it has ended.
    pub(crate) async fn eldest_ends(&self) -> anyhow::Result<()> {
        let leaving = self.leaving.take().context("no manager was told to end")?;
        let status = leaving.process.wait(LEAVING).await?;
        ensure!(status.success(), "{status}: {}", leaving.process.log());
        Ok(())
    }

    /// Where its pods are, and which jobs come to it.
    pub(crate) fn place(&self) -> anyhow::Result<&RunnerPlacement> {
        self.place.as_ref().context("the fleet has no place yet")
    }
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let url = Url::parse(url)?;
    url.socket_addrs(|| None)?.first().copied().with_context(|| format!("no address in {url}"))
}
