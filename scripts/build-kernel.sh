#!/bin/sh
# Builds the trimmed guest kernel from Debian's own source package and
# kernel/config.fragment, and prints the directory it is in: boot/ holds
# vmlinux-RELEASE, config-RELEASE and System.map-RELEASE. There are no modules.
#
#   scripts/build-kernel.sh [--refresh] [DIR]
#
# DIR is where it is kept (default _build/kernel-trimmed), in a directory of
# its own for each source version, fragment, compiler and version of this
# script; DIR/current leads to the last one. --refresh asks apt whether there is
# a newer source. Nothing is installed, and 2.5 GB of disk are used meanwhile.
# Needed are the packages of `scripts/setup.sh kernel`.
#
# SOURCE=linux-source-6.12 takes another kernel; the fragment must fit it.
set -eu

refresh=no
if [ "${1-}" = --refresh ]; then
    refresh=yes
    shift
fi
dir=${1:-_build/kernel-trimmed}
source=${SOURCE:-linux-source-6.1}
fragment=$(dirname "$(dirname "$(readlink -f "$0")")")/kernel/config.fragment
# The symbols of what was built must not tell when, where and by whom.
export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=dougong KBUILD_BUILD_HOST=dougong KBUILD_BUILD_VERSION=1
export LC_ALL=C

note() { echo "build-kernel: $*" >&2; }
fail() {
    note "$*"
    exit 1
}

# candidate prints the version of the source package that apt would fetch.
candidate() { apt-cache policy "$source" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)$/\1/p'; }

for tool in gcc make flex bison bc perl xz strip; do
    command -v "$tool" >/dev/null || fail "there is no $tool on this machine: run scripts/setup.sh kernel as root"
done
[ -e /usr/include/gelf.h ] || fail "libelf's header is missing: run scripts/setup.sh kernel as root"

version=$(candidate)
if [ -z "$version" ] || [ "$refresh" = yes ]; then
    apt-get -q update >&2 || fail "apt-get update did not work; is there a network?"
    version=$(candidate)
fi
[ -n "$version" ] || fail "apt knows no $source: add Debian's main component to its sources"

key=$({
    cat "$0" "$fragment"
    echo "$source $version"
    gcc -dumpfullversion
} | sha256sum | cut -c 1-16)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
place=$dir/$key

finish() {
    ln -sfn "$key" "$dir/current"
    echo "$place"
}
if [ -d "$place" ]; then
    finish
    exit 0
fi

work=$(mktemp -d "$dir/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
log=$dir/log
mkdir -p "$work/deb" "$work/source" "$work/tree/boot"

# apt drops to the user _apt for downloads, who may not be able to write here.
download() { (cd "$work/deb" && apt-get -q -o APT::Sandbox::User=root download "$source=$version"); }

fetch() {
    download || { apt-get -q update && download; }
}

# unpack leaves out the largest of what x86 guests have no use for.
unpack() {
    dpkg-deb --fsys-tarfile "$work"/deb/*.deb | tar -C "$work" -xf - "./usr/src/$source.tar.xz" &&
        rm -r "$work/deb" &&
        tar -C "$work/source" --strip-components=1 -xf "$work/usr/src/$source.tar.xz" \
            --exclude='*/arch/*/boot/dts' --exclude='*/drivers/gpu/drm/amd/include' --exclude='*/tools/testing/selftests' &&
        rm -r "$work/usr/src"
}

kbuild() { make -s -C "$work/source" ARCH=x86_64 "$@"; }

configure() { kbuild KCONFIG_ALLCONFIG="$fragment" allnoconfig; }

# differences prints the lines of the fragment that the configuration has not
# kept: symbols that do not exist, or miss what they depend on, are dropped
# without a word.
differences() {
    awk '
        { wanted = FILENAME == ARGV[1]; name = "" }
        /^CONFIG_[A-Za-z0-9_]+=/ { name = $0; sub(/=.*/, "", name); value = substr($0, length(name) + 2) }
        /^# CONFIG_[A-Za-z0-9_]+ is not set$/ { name = $2; value = "n" }
        name == "" { next }
        wanted { want[name] = value; next }
        { have[name] = value }
        END {
            for (name in want)
                if (want[name] != (name in have ? have[name] : "n"))
                    print "  " name ": wanted " want[name] ", got " (name in have ? have[name] : "nothing")
        }' "$fragment" "$work/source/.config" | sort
}

compile() {
    release=$(kbuild kernelrelease) && kbuild -j"$(nproc)" vmlinux &&
        cp "$work/source/.config" "$work/tree/boot/config-$release" &&
        cp "$work/source/System.map" "$work/tree/boot/System.map-$release" &&
        strip -o "$work/tree/boot/vmlinux-$release" "$work/source/vmlinux"
}

broken() {
    tail -n 15 "$log" >&2
    fail "that did not work; all that was said is in $log"
}

note "fetching $source $version"
(fetch) >"$log" 2>&1 || broken
note "unpacking it"
(unpack) >"$log" 2>&1 || broken
note "configuring it"
(configure) >"$log" 2>&1 || broken
dropped=$(differences)
[ -z "$dropped" ] || fail "$source $version does not take these lines of $fragment:
$dropped"
note "compiling it, which takes some minutes"
(compile) >"$log" 2>&1 || broken

chmod 755 "$work/tree"
if ! mv -T "$work/tree" "$place" 2>/dev/null && [ ! -d "$place" ]; then
    fail "cannot move the kernel to $place"
fi
rm -f "$log"
finish
