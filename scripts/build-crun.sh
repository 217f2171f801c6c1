#!/bin/sh
# Builds a static crun for the guest from Debian's own source package and
# prints its path. Under emulation the dynamic linker is about half of what a
# `crun run` costs, and crun executes itself twice.
#
#   scripts/build-crun.sh [--refresh] [DIR]
#
# DIR is where it is kept (default _build/crun). It is built once for each
# version of this script and of the compiler; --refresh builds again. Nothing
# is installed: the libraries' development packages are unpacked in a scratch
# directory. Where the source cannot be had or built, the path of the
# distribution's dynamic crun is printed, with a note on standard error.
set -eu

refresh=no
if [ "${1-}" = --refresh ]; then
    refresh=yes
    shift
fi
dir=${1:-_build/crun}
cflags='-O2 -g0 -fno-pie -fstack-protector-strong -D_FORTIFY_SOURCE=2 -ffunction-sections -fdata-sections'
ldflags='-no-pie -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now'

note() { echo "build-crun: $*" >&2; }

fall_back() {
    note "$*"
    if distribution=$(command -v crun); then
        note "using the distribution's dynamic $distribution: containers work and start about 0.1 s slower under emulation"
        echo "$distribution"
        exit 0
    fi
    note "and there is no crun on this machine: apt-get install crun"
    exit 1
}

compiler=$(gcc -dumpfullversion 2>/dev/null) || fall_back "there is no gcc: apt-get install gcc make"
script=$(readlink -f "$0")
key=$({
    cat "$script"
    echo "$compiler"
} | sha256sum | cut -c 1-16)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
place=$dir/$key/crun
if [ -x "$place" ] && [ "$refresh" = no ]; then
    echo "$place"
    exit 0
fi

work=$(mktemp -d "$dir/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
log=$work/log

# The lists of sources stay in the scratch directory: this machine's own apt
# set-up is neither changed nor in need of deb-src lines.
apt_source() {
    apt-get -q -o APT::Sandbox::User=root \
        -o "Dir::Etc::sourcelist=$work/debian.sources" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$work/lists" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

fetch_source() {
    # shellcheck source=/dev/null
    . /etc/os-release
    mkdir -p "$work/lists/partial" "$work/source"
    cat >"$work/debian.sources" <<SOURCES
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: ${VERSION_CODENAME:-bookworm}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    apt_source update && cd "$work" && apt_source source --download-only crun
}

# unpack follows dpkg-source by hand, which would need dpkg-dev.
unpack() {
    cd "$work" && tar -C source --strip-components=1 -xf crun_*.orig.tar.?z &&
        tar -C source -xf crun_*.debian.tar.?z && cd source || return 1
    while read -r patch; do
        patch -p1 -i "debian/patches/$patch" || return 1
    done <debian/patches/series
}

fetch_libraries() {
    mkdir "$work/debs" "$work/sysroot" && cd "$work/debs" &&
        apt-get -q -o APT::Sandbox::User=root download libseccomp-dev libcap-dev libyajl-dev gperf || return 1
    for deb in *.deb; do
        dpkg-deb -x "$deb" "$work/sysroot" || return 1
    done
}

build() {
    root=$work/sysroot/usr
    lib=$root/lib/$(gcc -print-multiarch)
    PATH=$root/bin:$PATH
    export PATH
    # gcrypt, which only a cache of compiled seccomp filters needs, has no
    # static library that links. Debian names yajl's archive differently.
    [ -e "$lib/libyajl.a" ] || ln -s libyajl_s.a "$lib/libyajl.a" || return 1
    cd "$work/source" &&
        ./configure --disable-shared --enable-static \
            --disable-systemd --disable-criu --disable-dl \
            CFLAGS="$cflags" CPPFLAGS="-I$root/include" LDFLAGS="$ldflags -L$lib" \
            PKG_CONFIG_PATH="$lib/pkgconfig" SECCOMP_CFLAGS="-I$root/include" SECCOMP_LIBS="-L$lib -lseccomp" \
            ac_cv_search_gcry_check_version=no \
            YAJL_CFLAGS="-I$root/include" YAJL_LIBS="-L$lib -lyajl" &&
        make -s .version git-version.h &&
        make -s generate-signals.c generate-mount_flags.c &&
        # Its rules do not say that all else needs what is generated.
        make -s -C libocispec generate &&
        make -s -C libocispec -j"$(nproc)" libocispec.la &&
        make -s -j"$(nproc)" LDFLAGS="$ldflags -L$lib -all-static" crun &&
        strip crun
}

tail_log() {
    grep -E -i "error|cannot|not found" "$log" | head -n 15 >&2
    tail -n 5 "$log" >&2
}

(fetch_source) >"$log" 2>&1 || { tail_log; fall_back "Debian's source package of crun cannot be had"; }
(unpack && fetch_libraries) >"$log" 2>&1 || { tail_log; fall_back "crun's source or libraries cannot be unpacked"; }
(build) >"$log" 2>&1 || { tail_log; fall_back "crun does not build"; }
"$work/source/crun" --version >"$log" 2>&1 || { tail_log; fall_back "the static crun does not run"; }

mkdir -p "$dir/$key"
mv "$work/source/crun" "$place"
echo "$place"
