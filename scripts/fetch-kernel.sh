#!/bin/sh
# Fetches the newest Debian cloud kernel with its modules and unpacks it into
# DIR/RELEASE (default _build/kernel), laid out like a host: boot/vmlinuz-RELEASE
# and lib/modules/RELEASE. Nothing is installed on this machine. What is there
# already is not fetched again. Prints the directory.
#
#   scripts/fetch-kernel.sh [--refresh] [DIR]
#
# --refresh asks apt for a newer kernel even when one was fetched before.
set -eu

refresh=no
if [ "${1-}" = --refresh ]; then
    refresh=yes
    shift
fi
dir=${1:-_build/kernel}
arch=$(dpkg --print-architecture)
meta=linux-image-cloud-$arch

note() { echo "fetch-kernel: $*" >&2; }
fail() {
    note "$*"
    exit 1
}

# newest prints the newest kernel that is unpacked below $dir.
newest() {
    [ -d "$dir" ] || return 0
    find "$dir" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*' | sort -V | tail -n 1
}

# resolve prints the package that the meta package stands for today.
resolve() {
    apt-cache depends "$meta" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

have=$(newest)
if [ -n "$have" ] && [ "$refresh" = no ]; then
    echo "$have"
    exit 0
fi

package=$(resolve)
if [ -z "$package" ] || [ "$refresh" = yes ]; then
    apt-get update >&2 || fail "apt-get update did not work; is there a network?"
    package=$(resolve)
fi
[ -n "$package" ] || fail "apt knows no $meta: add Debian's main component to its sources"

release=${package#linux-image-}
place=$dir/$release
if [ -d "$place" ]; then
    echo "$place"
    exit 0
fi

mkdir -p "$dir"
staging=$(mktemp -d "$dir/.new-XXXXXX")
trap 'rm -rf "$staging"' EXIT
trap 'exit 1' INT TERM
mkdir "$staging/deb" "$staging/tree"
# apt drops to the user _apt for downloads, who may not be able to write here.
download() { (cd "$staging/deb" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2); }
download || {
    # Lists that are older than the archive name files that are gone.
    apt-get update >&2 && download
} || fail "apt could not download $package"
dpkg-deb -x "$staging"/deb/*.deb "$staging/tree"
[ -f "$staging/tree/boot/vmlinuz-$release" ] || fail "$package has no boot/vmlinuz-$release"
chmod 755 "$staging/tree"
if ! mv -T "$staging/tree" "$place" 2>/dev/null && [ ! -d "$place" ]; then
    fail "cannot move the kernel to $place"
fi
echo "$place"
