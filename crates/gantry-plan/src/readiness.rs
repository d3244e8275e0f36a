//! How it is known that a service is ready: the ports that it answers on. Whoever knows them says
//! so by `HEALTHCHECK_TCP_PORT` in the variables of the service; one of the job is a guess for each
//! of its services, and of the usual images they are known.

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::job::Image;
use gantry_core::variables::{Variable, Variables};
use gantry_wire::services::{self, ServicePlan, ServicesPlan};

/// The variable of a service that names its ports. The reference takes one; several may be
/// separated by blanks or commas.
const HEALTHCHECK: &str = "HEALTHCHECK_TCP_PORT";

/// How long a service may take whose ports were named. The reference waits as long as the job may
/// take; a service that has not come by then will not.
const NAMED: Duration = Duration::from_mins(10);

/// The same for ports that were assumed (GitLab Runner 19.4, `wait_for_services_timeout` of the
/// executor docker).
const ASSUMED: Duration = Duration::from_secs(30);

/// Images by the last part of their names, with the ports that they listen on unless they are told
/// otherwise. One of them is enough.
const KNOWN: [(&str, &[u16]); 37] = [
    ("postgres", &[5432]),
    ("postgresql", &[5432]),
    ("postgis", &[5432]),
    ("pgvector", &[5432]),
    ("timescaledb", &[5432]),
    ("mysql", &[3306]),
    ("mariadb", &[3306]),
    ("percona", &[3306]),
    ("redis", &[6379]),
    ("redis-stack-server", &[6379]),
    ("valkey", &[6379]),
    ("keydb", &[6379]),
    ("memcached", &[11211]),
    ("mongo", &[27017]),
    ("rabbitmq", &[5672]),
    ("nats", &[4222]),
    ("kafka", &[9092]),
    ("zookeeper", &[2181]),
    ("elasticsearch", &[9200]),
    ("opensearch", &[9200]),
    ("solr", &[8983]),
    ("cassandra", &[9042]),
    ("clickhouse-server", &[8123]),
    ("couchdb", &[5984]),
    ("influxdb", &[8086]),
    ("neo4j", &[7687]),
    ("etcd", &[2379]),
    ("consul", &[8500]),
    ("vault", &[8200]),
    ("minio", &[9000]),
    ("localstack", &[4566]),
    ("registry", &[5000]),
    ("nginx", &[80]),
    ("httpd", &[80]),
    ("mailhog", &[1025]),
    ("standalone-chrome", &[4444]),
    ("standalone-firefox", &[4444]),
];

/// Where `PGPORT` does not say otherwise.
const POSTGRES: &[u16] = &[5432];

/// The variable by which `postgres` listens elsewhere.
const PGPORT: &str = "PGPORT";

/// A daemon of Docker in a container: with TLS, or without.
const DOCKER: &[u16] = &[2376, 2375];

/// Who says on which ports a service answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// A variable of the service, which alone counts in the reference.
    #[default]
    Service,
    /// A variable of the job, for whichever of its services it fits.
    Job,
    /// Nobody: they are declared for the proxy, or known of the image.
    Known,
}

/// Ports, who says so, and what is wrong with what was said about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) list: Vec<u16>,
    pub(crate) source: Source,
    pub(crate) warning: Option<String>,
}

/// The ports of a service: those that it names, else those that the job names for all of them, else
/// what is declared, else what is known.
pub(crate) fn ports((container, image): (&str, &str), spec: &Image, variables: &Variables) -> Ports {
    let own = spec.variables.iter().rfind(|variable| variable.key == HEALTHCHECK);
    let named = own.map(|variable| (Source::Service, expanded(variables, variable)));
    let named = named.or_else(|| Some((Source::Job, expanded(variables, variables.find(HEALTHCHECK)?))));
    if let Some((source, text)) = named.filter(|(_, text)| !text.trim().is_empty()) {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let read: Result<Vec<u16>, _> = words.map(str::parse).collect();
        return match read {
            Ok(list) if !list.contains(&0) => Ports { list, source, warning: None },
            _ => {
                let name = services::shown(container, image);
                let warning = format!(
                    "{HEALTHCHECK} of service {name} is {text:?}, which is no port: the service is not waited for"
                );
                Ports { warning: Some(warning), ..Ports::default() }
            }
        };
    }
    let declared: Vec<u16> = spec.ports.iter().filter_map(|port| u16::try_from(port.number).ok()).collect();
    let list = if declared.is_empty() { known(image, spec, variables).to_vec() } else { declared };
    Ports { list, source: Source::Known, warning: None }
}

fn expanded(variables: &Variables, variable: &Variable) -> String {
    if variable.raw { variable.value.expose().to_owned() } else { variables.expand(variable.value.expose()) }
}

/// What is known of an image that starts what it is made for, where it usually listens.
fn known(image: &str, spec: &Image, variables: &Variables) -> &'static [u16] {
    let without_digest = image.split('@').next().unwrap_or_default();
    let last = without_digest.rsplit('/').next().unwrap_or_default();
    let (name, tag) = last.split_once(':').unwrap_or((last, ""));
    let starts_itself = spec.entrypoint.is_empty()
        && spec.command.first().is_none_or(|first| first.starts_with('-') || first.contains(name));
    if !starts_itself || spec.command.iter().any(|word| names_port(word)) {
        return &[];
    }
    if name == "docker" && tag.contains("dind") {
        return DOCKER;
    }
    let ports: &[u16] = KNOWN.iter().find(|(known, _)| *known == name).map_or(&[], |(_, ports)| ports);
    let own = spec.variables.iter().rfind(|variable| variable.key == PGPORT);
    let elsewhere = own.or_else(|| variables.find(PGPORT)).map(|variable| expanded(variables, variable));
    match elsewhere {
        Some(port) if ports == POSTGRES && port != "5432" => &[],
        _ => ports,
    }
}

/// Whether a word of a command says where to listen: `--port 7000`, `-p7000`, `-c port=7000`.
fn names_port(word: &str) -> bool {
    let short = word.strip_prefix("-p").or_else(|| word.strip_prefix("-P"));
    word == "--port"
        || word.starts_with("--port=")
        || word.starts_with("port=")
        || short.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What the pod is told about one service.
pub(crate) fn told(
    (container, image): (&str, &str),
    spec: &Image,
    ports: &Ports,
    runner: &RunnerSettings,
) -> ServicePlan {
    let is_known = ports.source == Source::Known;
    let list = if is_known && !runner.wait_for_known_services { Vec::new() } else { ports.list.clone() };
    ServicePlan {
        container: container.to_owned(),
        image: image.to_owned(),
        label: label(image, &spec.aliases),
        ports: list,
        assumed: ports.source != Source::Service,
    }
}

/// What the pod is told about its services.
pub(crate) fn plan(list: Vec<ServicePlan>, runner: &RunnerSettings, show_logs: bool) -> ServicesPlan {
    let millis = |default: Duration| {
        let limit = runner.wait_for_services_timeout.unwrap_or(default);
        u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
    };
    ServicesPlan { list, timeout_ms: millis(NAMED), assumed_timeout_ms: millis(ASSUMED), show_logs }
}

/// What begins the lines of its log (GitLab Runner 19.4): the image up to its tag, and the aliases.
fn label(image: &str, aliases: &str) -> String {
    let image = image.split(':').next().unwrap_or_default();
    let aliases = aliases.split([' ', ',']).filter(|alias| !alias.is_empty());
    std::iter::once(image).chain(aliases).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: &str, command: &[&str], own: &[(&str, &str)], job: &[(&str, &str)]) -> Ports {
        let made = |pairs: &[(&str, &str)]| {
            let variable = |(key, value): &(&str, &str)| Variable {
                key: (*key).to_owned(),
                value: (*value).into(),
                ..Variable::default()
            };
            pairs.iter().map(variable).collect()
        };
        let spec = Image {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            variables: made(own),
            ..Image::default()
        };
        ports(("svc-0", image), &spec, &Variables::new(made(job), "/tmp"))
    }

    fn assumed(ports: &[u16]) -> Ports {
        Ports { list: ports.to_vec(), source: Source::Known, warning: None }
    }

    #[test]
    fn named_ports_come_first() {
        let named = |list: &[u16]| Ports { list: list.to_vec(), ..Ports::default() };
        let port = &[("HEALTHCHECK_TCP_PORT", "7000")];
        assert_eq!(of("redis:7", &[], port, &[]), named(&[7000]));
        assert_eq!(of("x", &[], &[("HEALTHCHECK_TCP_PORT", "$P, 81")], &[("P", "80")]), named(&[80, 81]));
        assert_eq!(of("x", &[], &[], port), Ports { source: Source::Job, ..named(&[7000]) });
        let of_job = of("x", &[], &[], &[("HEALTHCHECK_TCP_PORT", "$P"), ("P", "7000")]);
        assert_eq!(of_job, Ports { source: Source::Job, ..named(&[7000]) });
        let wrong = of("redis:7", &[], &[("HEALTHCHECK_TCP_PORT", "http")], &[]);
        assert!(wrong.list.is_empty() && wrong.warning.is_some_and(|warning| warning.contains("\"http\"")));
    }

    #[test]
    fn usual_images_are_known_while_they_start_what_they_are_made_for() {
        assert_eq!(of("registry.example.com:5000/db/postgres:16-alpine", &[], &[], &[]), assumed(&[5432]));
        assert_eq!(of("redis@sha256:abc", &["redis-server", "--save", ""], &[], &[]), assumed(&[6379]));
        assert_eq!(of("redis:7", &["redis-server", "--port", "7000"], &[], &[]), assumed(&[]));
        assert_eq!(of("mysql:8", &["--port=3307"], &[], &[]), assumed(&[]));
        assert_eq!(of("memcached:1", &["memcached", "-p11212"], &[], &[]), assumed(&[]));
        assert_eq!(of("postgres:16", &["-c", "port=5433"], &[], &[]), assumed(&[]));
        assert_eq!(of("postgres:16", &[], &[("PGPORT", "$P")], &[("P", "5433")]), assumed(&[]));
        assert_eq!(of("postgres:16", &[], &[], &[("PGPORT", "5433")]), assumed(&[]));
        assert_eq!(of("postgres:16", &["-c", "fsync=off"], &[], &[("PGPORT", "5432")]), assumed(&[5432]));
        assert_eq!(of("redis:7", &[], &[], &[("PGPORT", "5433")]), assumed(&[6379]));
        assert_eq!(of("redis:7", &["sleep", "60"], &[], &[]), assumed(&[]));
        assert_eq!(of("docker:27-dind", &["--mtu=1400"], &[], &[]), assumed(&[2376, 2375]));
        assert_eq!(of("docker:27", &[], &[], &[]), assumed(&[]));
        assert_eq!(of("example/own", &[], &[], &[]), assumed(&[]));
    }

    #[test]
    fn labels_are_those_of_the_reference() {
        assert_eq!(label("postgres:16", "db, main"), "postgres-db-main");
    }
}
