# The control plane and the kubelet, built once per release into the cache. To be sourced after
# common.sh and packages.sh.
#
# No registry with ready images can be counted on, and no distribution has packages of the servers.

# Both have fetch_kubernetes_source, compile_kubernetes, and in KUBERNETES_BUILT the directory where
# the programs are then.
case $KUBERNETES_RELEASE in
1.20)
    # shellcheck source=kubernetes-debian.sh
    . "$here/lib/kubernetes-debian.sh"
    ;;
*)
    # shellcheck source=kubernetes-modules.sh
    . "$here/lib/kubernetes-modules.sh"
    ;;
esac

kubernetes_is_built() {
    local program
    for program in "${KUBERNETES_PROGRAMS[@]}"; do
        [ -x "$KUBERNETES_DIR/bin/$program" ] || return 1
    done
}

build_kubernetes() {
    ! kubernetes_is_built || return 0
    install_packages "${KUBERNETES_BUILD_PACKAGES[@]}"
    mkdir -p "$KUBERNETES_DIR"
    # Two first runs at the same time must not build in the same place.
    exec 8>"$KUBERNETES_DIR/lock"
    flock --nonblock 8 || {
        say "waiting for another build of Kubernetes"
        flock 8
    }
    if ! kubernetes_is_built; then
        fetch_kubernetes_source
        say "building ${KUBERNETES_PROGRAMS[*]} (once; about 7 minutes on two idle cores; output in $KUBERNETES_DIR/build.log)"
        compile_kubernetes >"$KUBERNETES_DIR/build.log" 2>&1 </dev/null &
        local build=$! last=
        while kill -0 "$build" 2>/dev/null; do
            sleep 5
            local now
            now=$(tail -n 1 "$KUBERNETES_DIR/build.log" 2>/dev/null | cut -c 1-120)
            [ "$now" = "$last" ] || say "  $now"
            last=$now
        done
        wait "$build" || {
            tail -n 30 "$KUBERNETES_DIR/build.log" >&2
            die "Kubernetes could not be built; the whole output is in $KUBERNETES_DIR/build.log"
        }
        mkdir -p "$KUBERNETES_DIR/bin"
        local program
        for program in "${KUBERNETES_PROGRAMS[@]}"; do
            cp "$KUBERNETES_BUILT/$program" "$KUBERNETES_DIR/bin/$program.new"
            mv "$KUBERNETES_DIR/bin/$program.new" "$KUBERNETES_DIR/bin/$program"
        done
        rm -rf "$KUBERNETES_DIR/source" "$KUBERNETES_DIR/go" "$KUBERNETES_DIR/gocache" "$KUBERNETES_DIR/apt" "$KUBERNETES_DIR"/*.orig.tar.gz
        say "Kubernetes $KUBERNETES_VERSION is built"
    fi
    exec 8>&-
}
