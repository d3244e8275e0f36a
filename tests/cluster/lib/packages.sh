# The Debian packages that the scripts of this directory need, each named when it is missing. To be
# sourced after common.sh.

# Installs what is missing of the named packages; says each name. Services that come with a package
# are not started: the cluster runs its own, in namespaces of its own.
install_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "missing Debian packages: ${missing[*]}"
    command -v apt-get >/dev/null || die "this is no Debian: please install what these packages hold"
    need_root
    mkdir -p "$CACHE_DIR"
    local policy=/usr/sbin/policy-rc.d ours=no
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    local code=0
    (
        export DEBIAN_FRONTEND=noninteractive
        logged "$CACHE_DIR/apt-update.log" apt-get update --quiet
        logged "$CACHE_DIR/apt-install.log" apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
    ) || code=$?
    [ "$ours" = no ] || rm -f "$policy"
    [ "$code" = 0 ] || die "these packages could not be installed: ${missing[*]}"
    say "installed"
}

# The address of a Debian mirror: the one that this machine already uses for bookworm.
debian_mirror() {
    local file uri
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        uri=$(awk 'tolower($1) == "uris:" { print $2; exit }' "$file")
        if grep -q '^Suites:.*bookworm' "$file" && [ "${uri%/debian*}" != "$uri" ]; then
            echo "$uri"
            return
        fi
    done
    uri=$(awk '$1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^https?:/ && $(i + 1) == "bookworm") { print $i; exit } }' \
        /etc/apt/sources.list 2>/dev/null || true)
    echo "${uri:-http://deb.debian.org/debian}"
}
