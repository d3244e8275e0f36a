# A Go that is new enough, and where it works. To be sourced after common.sh and packages.sh.
# Whoever uses it sets GO_DIR: a directory for what Go keeps, to be removed when it is done.

# The Go that is fetched where the machine has none, or an older one; that of Debian is only good
# for fetching.
GO_VERSION=1.26.8
GO_MINIMUM=1.25

# go_minor PROGRAM: the second number of its version.
go_minor() {
    GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p'
}

# Environment of everything that Go does here: nothing is left behind in the user's module cache,
# and what is fetched can be removed again.
in_go() {
    env -u GOBIN GOPATH="$GO_DIR/go" GOMODCACHE="$GO_DIR/go/pkg/mod" GOCACHE="$GO_DIR/gocache" GOTOOLCHAIN=local \
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
    logged "$GO_DIR/fetch.log" in_go "$GO" mod download "$toolchain"
    toolchain=$GO_DIR/go/pkg/mod/$toolchain
    # Modules carry no permissions.
    chmod -R a+x "$toolchain/bin" "$toolchain/pkg/tool"
    GO=$toolchain/bin/go
}
