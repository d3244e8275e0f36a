# Kubernetes 1.20 from Debian's source package. To be sourced after common.sh and packages.sh.
#
# Debian has the source but no package of the servers.

# What it builds with. A newer Go, also one that comes first in PATH, does not build it.
GO_ROOT=/usr/lib/go-1.19
KUBERNETES_BUILD_PACKAGES=(dpkg-dev golang-1.19-go golang-github-modern-go-reflect2-dev make gcc libc6-dev rsync ca-certificates)

# Fetches the source with an apt configuration of its own, so that the machine's list of sources
# stays as it is.
fetch_kubernetes_source() {
    local apt=$KUBERNETES_DIR/apt
    rm -rf "$apt" "$KUBERNETES_DIR/source"
    mkdir -p "$apt/lists/partial"
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s bookworm main\n' "$(debian_mirror)" >"$apt/sources.list"
    local options=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$apt/lists"
        -o APT::Sandbox::User=root --quiet)
    say "fetching the source of Kubernetes $KUBERNETES_VERSION from $(debian_mirror)"
    cd "$apt"
    logged "$KUBERNETES_DIR/fetch.log" apt-get "${options[@]}" update
    logged "$KUBERNETES_DIR/fetch.log" apt-get "${options[@]}" source --download-only kubernetes
    # The package's own version reads 1.20.5+really1.20.2-….
    local dsc=("$apt"/kubernetes_*"$KUBERNETES_VERSION"[-+]*.dsc)
    [ -e "${dsc[0]}" ] || die "the mirror has another version of the source package than $KUBERNETES_VERSION: see $apt"
    logged "$KUBERNETES_DIR/fetch.log" dpkg-source -x "${dsc[0]}" "$KUBERNETES_DIR/source"
    cd - >/dev/null
}

compile_kubernetes() {
    local source=$KUBERNETES_DIR/source gopath=$KUBERNETES_DIR/go
    # The tree of 1.20 builds only below a GOPATH, under its import path.
    mkdir -p "$gopath/src/k8s.io"
    ln -sfn "$source" "$gopath/src/k8s.io/kubernetes"
    # The copy in the source does not know how maps are walked since Go 1.18: an API server with it
    # dies of a wrong address as soon as somebody asks with curl.
    rm -rf "$source/vendor/github.com/modern-go/reflect2"
    cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 "$source/vendor/github.com/modern-go/reflect2"
    # There is no git here to ask for the version, and clients look at it.
    cat >"$KUBERNETES_DIR/version" <<VERSION
KUBE_GIT_COMMIT='unknown'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v$KUBERNETES_VERSION'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
VERSION
    cd "$gopath/src/k8s.io/kubernetes"
    nice -n 10 env -u GOFLAGS -u GOBIN PATH="$GO_ROOT/bin:$PATH" GOROOT="$GO_ROOT" GOPATH="$gopath" GOCACHE="$KUBERNETES_DIR/gocache" \
        GOTOOLCHAIN=local GO111MODULE=off CGO_ENABLED=0 KUBE_GIT_VERSION_FILE="$KUBERNETES_DIR/version" \
        make all WHAT="${KUBERNETES_PROGRAMS[*]/#/cmd/}"
    cd - >/dev/null
}

KUBERNETES_BUILT=$KUBERNETES_DIR/source/_output/local/go/bin
