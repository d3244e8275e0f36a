# Kubernetes 1.34 from the Go modules in which it is published. To be sourced after common.sh and
# packages.sh.

# The Go that is fetched where the machine has none, or an older one; that of Debian is only good
# for fetching.
GO_VERSION=1.24.11
GO_MINIMUM=1.24
KUBERNETES_BUILD_PACKAGES=(ca-certificates)

# go_minor PROGRAM: the second number of its version.
go_minor() {
    GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p'
}

# Environment of everything that Go does here: nothing is left behind in the user's module cache,
# and what is fetched can be removed again.
in_go() {
    env -u GOBIN GOPATH="$KUBERNETES_DIR/go" GOMODCACHE="$KUBERNETES_DIR/go/pkg/mod" GOCACHE="$KUBERNETES_DIR/gocache" GOTOOLCHAIN=local \
        GOFLAGS='-modcacherw -mod=mod -buildvcs=false' GOWORK=off CGO_ENABLED=0 "$@"
}

# Sets GO to a Go that is new enough.
find_go() {
    local minor toolchain=golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-$(dpkg --print-architecture)
    GO=$(command -v go || true)
    minor=$([ -z "$GO" ] || go_minor "$GO")
    [ "${minor:-0}" -lt "${GO_MINIMUM#1.}" ] || return 0
    if [ -z "$GO" ]; then
        install_packages golang-1.19-go
        GO=/usr/lib/go-1.19/bin/go
    fi
    say "fetching Go $GO_VERSION"
    logged "$KUBERNETES_DIR/fetch.log" in_go "$GO" mod download "$toolchain"
    toolchain=$KUBERNETES_DIR/go/pkg/mod/$toolchain
    # Modules carry no permissions.
    chmod -R a+x "$toolchain/bin" "$toolchain/pkg/tool"
    GO=$toolchain/bin/go
}

# A module that requires Kubernetes. Its parts ("staging modules") are published with the same
# release and are named there without a version.
write_module() {
    local go_mod part
    go_mod=$(in_go "$GO" mod download -json "k8s.io/kubernetes@v$KUBERNETES_VERSION" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
    {
        echo 'module gantry.test/kubernetes'
        grep -E '^(go|godebug) ' "$go_mod"
        echo "require k8s.io/kubernetes v$KUBERNETES_VERSION"
        awk '$2 == "v0.0.0" { print $1 }' "$go_mod" | while read -r part; do
            echo "replace $part => $part v0.${KUBERNETES_VERSION#1.}"
        done
    } >"$KUBERNETES_DIR/source/go.mod"
}

fetch_kubernetes_source() {
    mkdir -p "$KUBERNETES_DIR/source"
    find_go
    say "fetching the modules of Kubernetes $KUBERNETES_VERSION"
    logged "$KUBERNETES_DIR/fetch.log" in_go "$GO" mod download "k8s.io/kubernetes@v$KUBERNETES_VERSION"
    write_module
}

compile_kubernetes() {
    local package flags='-s -w' minor=${KUBERNETES_RELEASE#1.}
    # There is no git here to ask for the version, and clients look at it.
    for package in component-base client-go/pkg; do
        flags+=" -X k8s.io/$package/version.gitVersion=v$KUBERNETES_VERSION -X k8s.io/$package/version.gitMajor=1"
        flags+=" -X k8s.io/$package/version.gitMinor=$minor"
    done
    cd "$KUBERNETES_DIR/source"
    mkdir -p built
    # With its progress, which is a package a line.
    in_go nice -n 10 "$GO" build -v -trimpath -ldflags "$flags" -o built/ "${KUBERNETES_PROGRAMS[@]/#/k8s.io/kubernetes/cmd/}"
    cd - >/dev/null
}

KUBERNETES_BUILT=$KUBERNETES_DIR/source/built
