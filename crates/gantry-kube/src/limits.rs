//! Every number that bounds something in the talk with a cluster, each with the reason for its
//! size.

use std::time::Duration;

/// One request to the API server that is not a watch or an exec. Admission webhooks may take 30 s
/// by themselves (Kubernetes API).
pub const REQUEST: Duration = Duration::from_secs(40);

/// Opening a connection to the API server, TLS included.
pub const CONNECT: Duration = Duration::from_secs(10);

/// Asking a kubeconfig's plugin for credentials: it asks others in turn, which takes seconds. Less
/// than a request, which may be what it is asked for.
pub const PLUGIN: Duration = Duration::from_secs(30);

/// Silence after which TCP probes a connection to the API server, as kubectl does: a NAT keeps its
/// flow, and one that has dropped it is found out.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);

/// Between two probes without an answer. Linux sends nine before the connection has failed: within
/// three minutes, where its own interval would make it twelve.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Connections without a request that are kept: as many as a burst of jobs makes for its pods,
/// whose execs then need no others.
pub(crate) const IDLE_CONNECTIONS: usize = 64;

/// How long they are kept. A pod is reached within seconds of its creation, and what comes later
/// may make a connection anew, in milliseconds.
pub(crate) const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Events of one pod that are read: a cluster joins those that say the same, so that few pods have
/// as many.
pub(crate) const EVENTS: u32 = 100;

/// Different warnings about one pod that are told: the newest are about what it waits for.
pub const WARNINGS: usize = 3;

/// Lines of a container's log that are shown of one that has ended or does not answer: a stack
/// trace, or the sentences before it.
pub(crate) const LAST_LINES: i64 = 20;

/// Bytes of them that are read: such lines have some hundred each.
pub(crate) const LAST_LINES_BYTES: i64 = 32 << 10;

/// Most characters of the last line of an entrypoint that has failed: what is longer is no sentence
/// and is not shown.
pub(crate) const LAST_LINE: usize = 300;

/// A line of a log that is followed; what is longer comes in several.
pub(crate) const LOG_LINE: usize = 16 << 10;

/// How long deleting a pod is tried. Its `activeDeadlineSeconds` ends it if this fails, and it is
/// removed later.
pub(crate) const DELETE_DEADLINE: Duration = Duration::from_secs(120);

/// The annotation with the end, in seconds since 1970, of the time for which the pod of a failed
/// job is kept. Such a pod takes no place.
pub const KEPT: &str = "gantry.dev/keep-until";

/// Pause before an object is looked for again that a pod needs (GitLab Runner 19.4).
pub(crate) const AWAIT_PAUSE: Duration = Duration::from_secs(5);

/// The label by whose value pods may be bounded (`crate::Cluster::bound`).
pub(crate) const BOUNDED_LABEL: &str = "gantry.dev/fleet";

/// Pause before a pod is asked for again that a quota has refused: another job's pod has to go
/// first, which takes seconds, and every try is an audited request.
pub const QUOTA_RETRY: Duration = Duration::from_secs(3);

/// How often a pod that waits for a place among those of its fleet looks whether there is one: in
/// memory, without a request.
pub(crate) const ROOM_LOOK: Duration = Duration::from_millis(100);

/// First pause after a failed request.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(200);

/// Longest pause between two tries of a request: an outage of seconds should not cost much more
/// than itself.
pub(crate) const BACKOFF_MOST: Duration = Duration::from_secs(5);

/// Longest pause the API server may ask for (`retryAfterSeconds`); more would outlast most
/// deadlines.
pub(crate) const RETRY_AFTER_MOST: Duration = Duration::from_secs(30);

/// How long the API server lets one watch run. It is resumed from the last version it showed, so
/// the end costs one request.
pub(crate) const WATCH_SECONDS: u32 = 290;

/// Events of a watch in a row that cannot be understood and are left out. One may be of a newer API
/// server; more are no watch.
pub(crate) const GARBLED_EVENTS: u32 = 3;

/// Silence after which a watch is taken for half-open and asked for again. Bookmarks come about
/// once a minute (Kubernetes API).
pub const WATCH_SILENCE: Duration = Duration::from_secs(100);

/// Pods or namespaces in one answer to `list`: a page stays far below the size at which an API
/// server answers slowly.
pub(crate) const LIST_PAGE: u32 = 250;

/// Pages of one list: 20,000 pods or namespaces of one fleet are a mistake in the selector, not a
/// fleet.
pub(crate) const LIST_PAGES: usize = 80;

/// Pods that are remembered although nobody watches them: as many as one list may show.
pub const SEEN: usize = 20_000;

/// Text of such a pod's facts. Most have some hundred bytes; a pod whose status is longer is looked
/// up when somebody asks for it.
pub(crate) const SEEN_TEXT: usize = 8 << 10;

/// Longest label or annotation of ours that is remembered of every pod: all but the sealed ticket,
/// which is read when it is needed.
pub const MARK: usize = 256;

/// One object, or one event of a watch, as the API server sends it. etcd keeps none over 1.5 MiB
/// (its `--max-request-bytes`), and JSON is not three times as long as what is kept there.
pub const OBJECT: usize = 4 << 20;

/// One page of a list: 128 KiB for each of its pods, of which most have 20.
pub const PAGE: usize = LIST_PAGE as usize * (128 << 10);

/// All pages of one list, as text: 13,000 pods of usual size, of which a small part is kept.
pub const LIST: usize = 256 << 20;

/// Body of a refusal: a `Status` is some hundred bytes, a proxy's page some KiB, and only
/// [`MESSAGE`] of it is ever shown.
pub const REFUSAL: usize = 64 << 10;

/// How long the body of a refusal is waited for, whose status is there already: less than any
/// request may take.
pub(crate) const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// One WebSocket message from a container. The kubelet copies 32 KiB at a time.
pub const EXEC_MESSAGE: usize = 1 << 20;

/// How long after it was asked for a pod that the watch has not shown is looked up by GET. The
/// watch is normally faster by far.
pub const FIRST_STATUS: Duration = Duration::from_secs(5);

/// How long after the watch has shown that a pod left it a GET has to prove that it is gone. Most
/// are those that a job has just deleted, and by then nobody watches them any more, which saves the
/// request.
pub const LEFT: Duration = Duration::from_millis(250);

/// Where `watch` is not granted: how often each pod is looked at (GitLab Runner 19.4,
/// `poll_interval`: 3 s).
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Where `watch` is not granted: how often it is tried again, in case somebody has granted it
/// since.
pub const WATCH_REFUSED_RETRY: Duration = Duration::from_secs(300);

/// Single-pod look-ups of the driver that are under way at once.
pub(crate) const LOOKUPS: usize = 8;

/// First pause between two tries to reach an agent: a container starts in some hundreds of
/// milliseconds, so this wastes little of it.
pub(crate) const ATTACH_FIRST: Duration = Duration::from_millis(40);

/// Factor in percent by which the pause grows.
pub(crate) const ATTACH_GROWTH_PERCENT: u32 = 150;

/// Longest pause between two tries: each is an audited request, and a pod that takes long can wait
/// two seconds more.
pub(crate) const ATTACH_MOST: Duration = Duration::from_secs(2);

/// How much earlier than the quickest of its kind a pod is first tried: one may be quicker, and a
/// cluster becomes quicker.
pub(crate) const ATTACH_EARLIER: Duration = Duration::from_millis(30);

/// Tries between the quickest and the slowest start of a kind.
pub(crate) const ATTACH_DENSE_TRIES: u32 = 3;

/// Shortest pause between those: a try takes about as long.
pub(crate) const ATTACH_DENSEST: Duration = Duration::from_millis(15);

/// Longest pause between those: the kubelet shows a container that runs after a second.
pub(crate) const ATTACH_SPARSEST: Duration = Duration::from_secs(1);

/// Starts of one kind that are remembered where pods start alone; four more for each doubling of
/// those that start at once, which differ more. The quickest and the slowest eighth are taken for
/// accidents.
pub(crate) const STARTS_OF_KIND: usize = 8;

/// Kinds of starts that are remembered, nodes times images times crowds: 30 KiB, whatever the size
/// of the cluster.
pub(crate) const KINDS_OF_STARTS: usize = 64;

/// Execs of one [`crate::Cluster`] that are being opened at once: 60 pods at once then take 1.2 s,
/// and an API server notices nothing.
pub(crate) const OPENING: usize = 20;

/// Execs that may be tried at once after a quiet time: one burst of jobs.
pub(crate) const EXEC_BURST: u32 = 60;

/// Time in which one more exec may be tried once the burst is used up: 50 a second for all pods of
/// a namespace.
pub(crate) const EXEC_REFILL: Duration = Duration::from_millis(20);

/// The upgrade to a WebSocket. The kubelet answers at once or not at all.
pub const UPGRADE: Duration = Duration::from_secs(10);

/// From the upgrade to the first line of the exec'd shell, on a node that is very busy.
pub(crate) const FIRST_LINE: Duration = Duration::from_secs(20);

/// From the request for a helper to the bridge's greeting: 10 MB over a line of 1 Mbit/s.
pub const PUSH: Duration = Duration::from_secs(90);

/// Longest line the exec'd shell may print before the frames begin.
pub const LINE: usize = 4096;

/// Part of the exec's standard error that is kept for error texts.
pub const STDERR: usize = 2048;

/// Part of an API server's or kubelet's message that is repeated in an error.
pub const MESSAGE: usize = 4096;

/// Payload of one WebSocket message to the container. With its frame it is one TLS record, which
/// holds 16 KiB.
pub(crate) const STDIN_MESSAGE: usize = 16 * 1024 - 64;

/// One read of an exec, from a place on the stack. A kubelet sends up to 32 KiB at once, but most
/// pieces are a few lines.
pub(crate) const READ_BUFFER: usize = 4 * 1024;

/// How long after its creation was given up a pod may still come: a request that was under way
/// then, and a slow API server.
pub const LATE_CREATION: Duration = Duration::from_mins(3);

/// Between two tries to remove a pod that should not be there: it is in nobody's way, and an API
/// server that has just come back is busy.
pub const LEFTOVER_PERIOD: Duration = Duration::from_mins(1);

/// How long that is tried. A manager that waits for its jobs to end waits for this too; an API
/// server that was away for longer is a matter for people, who find the pod by its label.
pub const LEFTOVER_DEADLINE: Duration = Duration::from_hours(1);

/// Failed pulls of one image after which its pod is given up. The first is forgiven: the kubelet
/// tries again by itself.
pub(crate) const PULL_FAILURES: u32 = 2;

/// Output of a command for `doctor` that is read: it says a few lines.
pub const SAID: usize = 64 * 1024;

/// Time for such a command: it makes one connection, which has a time-out of its own.
pub(crate) const SAID_DEADLINE: Duration = Duration::from_secs(60);

/// Pause before a pod is written again that others wrote at the same time: they have done within
/// milliseconds.
pub(crate) const CONFLICT_PAUSE: Duration = Duration::from_millis(500);
