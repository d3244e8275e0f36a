# Making images without a container engine: layers as tar files, and archives of them in the form of
# `docker save`, which containerd imports. To be sourced after common.sh and packages.sh.

# The Debian release that our images are based on, as in the Dockerfile.
IMAGE_RELEASE=bookworm
IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The part of a Debian package that nobody reads in a container.
IMAGE_UNWANTED=(usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian var/cache/apt var/cache/debconf
    var/lib/apt/lists var/log)

# layer DIRECTORY FILE: a directory as a layer; the same content gives the same bytes.
layer() {
    tar --create --file "$2.new" --directory "$1" --sort=name --numeric-owner --mtime=@0 --format=gnu .
    mv "$2.new" "$2"
}

# Removes what a container has no use for, but leaves the directories that programs expect.
slim() {
    local directory
    for directory in "${IMAGE_UNWANTED[@]}"; do
        [ ! -d "$1/$directory" ] || find "$1/$directory" -mindepth 1 ! -type d -delete
    done
    rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1"/var/lib/dpkg/*-old
}

# debian_layers PACKAGE…: prints the layers of a Debian with these packages, made once: the bare
# system, then what the packages add.
debian_layers() {
    local base=$IMAGE_DIR/$IMAGE_RELEASE packages name
    packages=$(printf '%s\n' "$@" | sort -u | paste -s -d ' ')
    # What every Debian has already needs no layer of its own.
    packages=$(tr ' ' '\n' <<<"$packages" | grep -vx bash | paste -s -d ' ') || true
    if [ ! -e "$base.layer" ]; then
        install_packages debootstrap
        say "making a Debian $IMAGE_RELEASE (once; about a minute)"
        rm -rf "$base"
        logged "$IMAGE_DIR/debootstrap.log" debootstrap --variant=minbase "$IMAGE_RELEASE" "$base" "$(debian_mirror)"
        layer_of_root "$base" "$base.layer"
    fi
    echo "$base.layer"
    [ -n "$packages" ] || return 0
    name=$base-${packages// /-}
    if [ ! -e "$name.layer" ]; then
        install_packages rsync
        say "adding $packages to it (once)"
        rm -rf "$name" "$name.added"
        cp -a "$base" "$name"
        cp /etc/resolv.conf "$name/etc/resolv.conf"
        logged "$IMAGE_DIR/install.log" chroot "$name" sh -c "
            export DEBIAN_FRONTEND=noninteractive PATH=$IMAGE_PATH LC_ALL=C
            apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends $packages"
        slim "$name"
        # Only what differs from the base. Files that are gone would come back; installing a package
        # removes none that matter.
        rsync --archive --hard-links --compare-dest="$base/" "$name/" "$name.added/"
        find "$name.added" -depth -mindepth 1 -type d -empty -exec sh -c '[ ! -d "$0/${1#"$2"/}" ] || rmdir "$1"' "$base" {} "$name.added" \;
        layer "$name.added" "$name.layer"
        rm -rf "$name" "$name.added"
    fi
    echo "$name.layer"
}

layer_of_root() {
    slim "$1"
    layer "$1" "$2"
}

# archive NAMES FILE CONFIG LAYER…: an image of these layers under one or more names; CONFIG is the
# JSON of its "config" member.
archive() {
    local names=$1 file=$2 config=$3 work layer digest digests='' entries='' image
    shift 3
    work=$(mktemp -d "$IMAGE_DIR/archive.XXXXXX")
    for layer in "$@"; do
        digest=$(sha256sum "$layer" | cut -d ' ' -f 1)
        ln "$layer" "$work/$digest.tar"
        digests+=${digests:+,}\"sha256:$digest\"
        entries+=${entries:+,}\"$digest.tar\"
    done
    printf '{"architecture":"amd64","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]}}' "$config" "$digests" >"$work/image"
    image=$(sha256sum "$work/image" | cut -d ' ' -f 1)
    mv "$work/image" "$work/$image.json"
    printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":[%s]}]' "$image" "${names// /\",\"}" "$entries" >"$work/manifest.json"
    tar --create --file "$file.new" --directory "$work" manifest.json "$image.json" $(cd "$work" && ls ./*.tar | sed 's#^./##')
    mv "$file.new" "$file"
    rm -rf "$work"
}
