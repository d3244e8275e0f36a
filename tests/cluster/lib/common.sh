# What all scripts of this directory share: names, places, and how they speak. To be sourced by
# bash; does nothing by itself.
#
# Standard output belongs to results (the path of the kubeconfig, the names of images); everything
# said to people goes to standard error.

# The name of the node, and of everything on the machine that must have a name.
NODE=gantry-node
# The veth pair between the machine and the node, and the pods behind it. 198.18.0.0/15 is set aside
# for tests of network devices (RFC 2544), so nothing that a person wants to reach is hidden.
HOST_LINK=gantry-host
HOST_IP=198.18.0.1
NODE_IP=198.18.0.2
POD_SUBNET=198.19.0.0/24
SERVICE_SUBNET=198.19.128.0/24
# First and tenth address of the service subnet: what Kubernetes gives its own API, and where pods
# are told to look for names.
API_SERVICE_IP=198.19.128.1
DNS_SERVICE_IP=198.19.128.10
API_PORT=6443
# Where nodes look for images that they do not have (tests/harness/registry.rs).
REGISTRY_PORT=5050

# The releases of Kubernetes that can be had, newest first; `up --kubernetes` chooses. 1.34 is the
# last whose kubelet takes cgroup v1 without a switch, which is what many machines for builds still
# have.
KUBERNETES_RELEASES=(1.34 1.20)
KUBERNETES_RELEASE=${GANTRY_KUBERNETES:-${KUBERNETES_RELEASES[0]}}
case $KUBERNETES_RELEASE in
# From Go modules: lib/kubernetes-modules.sh.
1.34) KUBERNETES_VERSION=1.34.4 ;;
# Debian bookworm's source package: lib/kubernetes-debian.sh.
1.20) KUBERNETES_VERSION=1.20.2 ;;
*)
    printf 'error: there is no Kubernetes %s here; there are: %s\n' "$KUBERNETES_RELEASE" "${KUBERNETES_RELEASES[*]}" >&2
    exit 2
    ;;
esac
KUBERNETES_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

CACHE_DIR=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/gantry
KUBERNETES_DIR=$CACHE_DIR/kubernetes-$KUBERNETES_VERSION
IMAGE_DIR=$CACHE_DIR/images
# Everything a running cluster leaves on disk.
STATE_DIR=${GANTRY_CLUSTER_DIR:-/var/lib/gantry-cluster}
KUBECONFIG_FILE=$STATE_DIR/admin.conf
# The release that the running cluster has.
RELEASE_FILE=$STATE_DIR/kubernetes
PKI_DIR=$STATE_DIR/var/lib/kubernetes/pki
CONTAINERD_SOCKET=$STATE_DIR/run/containerd/containerd.sock
# Log of the node's first process; those of the programs it starts are beside it.
NODE_LOG=$STATE_DIR/var/log/node.log
PAUSE_IMAGE=localhost/gantry-test/pause:1
# The cgroup below which the node and its pods live.
CGROUP=gantry-cluster
# Where the kernel is told how to start programs of other machines, and our entry there.
BINFMT=/proc/sys/fs/binfmt_misc
ARM64_FORMAT=gantry-arm64
# What the node and all its pods may take of the machine's memory, in percent: a job without a limit
# of its own must not be able to take the machine away from those who work on it.
MEMORY_PERCENT=35

started=$SECONDS

# One line of progress, with the seconds since the script began.
say() {
    printf '[%4ss] %s\n' "$((SECONDS - started))" "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root: it makes namespaces, mounts and a network interface"
}

# Runs a command with its output in a file, and shows the end of that file if the command fails.
logged() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        die "'$*' failed; its whole output is in $log"
    fi
}

# Waits until a command succeeds, at most so many seconds.
wait_until() {
    local seconds=$1
    shift
    local deadline=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# The process id, as the machine sees it, of the node's first process; fails if there is no node.
node_pid() {
    local outer inner
    outer=$(cat "$STATE_DIR/pid" 2>/dev/null) || return 1
    [ "$(cat "/proc/$outer/comm" 2>/dev/null)" = unshare ] || return 1
    inner=$(pgrep --parent "$outer") && echo "$inner"
}

# A request to the API server as its administrator, with this machine's curl: `up` needs no kubectl.
api() {
    local path=$1
    shift
    curl --silent --fail --user-agent gantry --max-time 5 --noproxy '*' --cacert "$PKI_DIR/ca.crt" --cert "$PKI_DIR/admin.crt" --key "$PKI_DIR/admin.key" \
        "$@" "https://$NODE_IP:$API_PORT$path"
}

node_is_ready() {
    api "/api/v1/nodes/$NODE" | tr -d ' \n' | grep -q '"type":"Ready","status":"True"'
}

ctr_images() {
    ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io images "$@"
}
