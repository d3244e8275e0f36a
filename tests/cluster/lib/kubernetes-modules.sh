# Kubernetes 1.34 from the Go modules in which it is published. To be sourced after common.sh and
# packages.sh.

# shellcheck source=go.sh
. "$here/lib/go.sh"

GO_DIR=$KUBERNETES_DIR
KUBERNETES_BUILD_PACKAGES=(ca-certificates)

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
