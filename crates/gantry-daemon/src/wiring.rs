//! From the settings of a `[[runners]]` entry to what is reached with them: GitLab, the cluster,
//! and what both are told about this runner. The daemon and every command that asks on its behalf
//! use this, so that what a command finds is what the daemon will find. Nothing is sent here.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_config::settings::Shell;
use gantry_config::{RunnerSettings, Settings};
use gantry_core::Secret;
use gantry_core::proxy::Proxies;
use gantry_gitlab::{ClientOptions, PROTOCOL_VERSION, RunnerInfo, TlsFiles};
use gantry_kube::{Access, RemoteAccess};
use gantry_plan::{Context, Owner, PatchFiles};
use gantry_wire::plan::{Alone, ProxyPlan};
use gantry_wire::ticket::TicketKey;

/// Where Kubernetes puts the token of a pod's service account: how a process knows that it runs in
/// a cluster.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Longest patch that is read from a file: an API server takes no larger object.
const PATCH_FILE: u64 = 1 << 20;

/// How the GitLab of an entry is reached. `directories` are those of
/// [`crate::certificate_directories`].
pub fn gitlab(settings: &RunnerSettings, directories: &[PathBuf], connection_max_age: Duration) -> ClientOptions {
    ClientOptions {
        files: TlsFiles { directories: directories.to_vec(), ..tls_files(settings) },
        connection_max_age,
        ..ClientOptions::new(settings.url.clone())
    }
}

/// The files for TLS towards GitLab that an entry names itself.
pub fn tls_files(settings: &RunnerSettings) -> TlsFiles {
    TlsFiles {
        ca: settings.tls_ca_file.clone(),
        cert: settings.tls_cert_file.clone(),
        key: settings.tls_key_file.clone(),
        ..TlsFiles::default()
    }
}

/// Where the cluster is: as configured, else the one that this process runs in, else the
/// kubeconfig's.
pub fn cluster(settings: &RunnerSettings) -> Access {
    let kubernetes = &settings.kubernetes;
    if let Some(host) = kubernetes.host.clone().filter(|host| !host.is_empty()) {
        return Access::Remote(RemoteAccess {
            host,
            ca_file: kubernetes.ca_file.clone(),
            bearer_token: kubernetes.bearer_token.clone(),
            cert_file: kubernetes.cert_file.clone(),
            key_file: kubernetes.key_file.clone(),
        });
    }
    if Path::new(SERVICE_ACCOUNT_TOKEN).exists() {
        return Access::InCluster;
    }
    Access::Kubeconfig { path: None, context: kubernetes.context.clone() }
}

/// The files that patches of pods come from, as they are now.
pub fn patch_files(settings: &RunnerSettings) -> PatchFiles {
    let files = gantry_plan::patch_files(&settings.kubernetes.pod_spec);
    let read = |path: &Path| {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut text = String::new();
        let length = file.take(PATCH_FILE).read_to_string(&mut text).map_err(|error| error.to_string())?;
        let is_whole = u64::try_from(length).is_ok_and(|length| length < PATCH_FILE);
        if is_whole { Ok(text) } else { Err(format!("it is longer than {PATCH_FILE} bytes")) }
    };
    files.map(|path| (path.to_owned(), read(path))).collect()
}

/// What GitLab is told about the runner of an entry.
pub fn runner_info(settings: &RunnerSettings) -> RunnerInfo {
    let shell = match settings.shell {
        Shell::Bash => "bash",
        Shell::Sh => "sh",
    };
    RunnerInfo::kubernetes(shell, settings.labels.clone())
}

/// What a plan has to know about this manager. What belongs to a job is still that of the very
/// first one, and no two pods may have its suffix. Fleet and key of tickets are the daemon's to
/// set: those that are here open for everybody.
pub fn context(system_id: &str, manager_host: &str, alone: &Alone) -> Context {
    let platform = format!("{}/{}", gantry_gitlab::platform(), gantry_gitlab::architecture());
    Context {
        name: "gantry".to_owned(),
        version: PROTOCOL_VERSION.to_owned(),
        revision: RunnerInfo::revision().to_owned(),
        git_user_agent: format!("gantry {PROTOCOL_VERSION} {platform}"),
        executable_arch: platform,
        manager_host: manager_host.to_owned(),
        system_id: system_id.to_owned(),
        concurrent_id: 0,
        concurrent_project_id: 0,
        suffix: "00000000".to_owned(),
        correlation_id: None,
        tls_ca_pem: None,
        configured_ca_pem: None,
        identity: None,
        proxies: proxies(),
        alone: alone.clone(),
        owner: Owner::default(),
        fleet: None,
        ticket_key: TicketKey::derive(&Secret::new(String::new())),
        session: None,
        taken_unix_ms: 0,
        docker_config: None,
        patch_files: gantry_plan::PatchFiles::new(),
        may_mark: true,
        holds_pods: false,
    }
}

/// What agents do when no manager speaks to them.
pub fn alone(settings: &Settings) -> Alone {
    let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Alone {
        self_report_after_ms: millis(settings.gantry.self_report_after),
        abandon_after_ms: millis(settings.gantry.abandon_after),
    }
}

/// The name of this host.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// The proxies of this process, for agents that have to do without it.
fn proxies() -> Option<ProxyPlan> {
    let proxies = Proxies::from_environment(&|name| std::env::var(name).ok());
    let plan = ProxyPlan {
        http: proxies.http().cloned().unwrap_or_default(),
        https: proxies.https().cloned().unwrap_or_default(),
        no_proxy: proxies.no_proxy().to_owned(),
    };
    (!plan.http.is_empty() || !plan.https.is_empty()).then_some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> RunnerSettings {
        let text =
            format!("[[runners]]\nurl = \"https://gitlab.test\"\ntoken = \"t\"\nexecutor = \"kubernetes\"\n{text}");
        gantry_config::load(&text, &|_| None).unwrap().settings.runners.remove(0)
    }

    #[test]
    fn an_entry_and_where_it_leads() {
        let remote = settings(
            "shell = \"sh\"\ntls-ca-file = \"/ca.crt\"\n[runners.kubernetes]\nhost = \"https://k:6443\"\nbearer_token = \"b\"\n",
        );
        let options = gitlab(&remote, &[PathBuf::from("/certs")], Duration::from_secs(1));
        assert_eq!((options.url.as_str(), options.connection_max_age), ("https://gitlab.test", Duration::from_secs(1)));
        assert_eq!(options.files.ca.as_deref(), Some(Path::new("/ca.crt")));
        assert_eq!(options.files.directories, [PathBuf::from("/certs")]);
        assert!(matches!(cluster(&remote), Access::Remote(remote) if remote.host == "https://k:6443"));
        let named = settings("[runners.kubernetes]\ncontext = \"staging\"\n");
        let is_of_kubeconfig =
            matches!(cluster(&named), Access::Kubeconfig { context: Some(context), .. } if context == "staging");
        assert!(is_of_kubeconfig || Path::new(SERVICE_ACCOUNT_TOKEN).exists());
    }
}
