#!/bin/sh
# Puts the daemons that tests run into DIR/<version>/: the distribution's and
# the newest one, each with its ctr. Nothing is installed on this machine.
#
#   scripts/containerd.sh DIR VERSION
set -eu

dir=$1
version=$2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

if [ ! -x "$dir/debian/ctr" ]; then
    temp=$(mktemp -d)
    trap 'rm -rf "$temp"' EXIT
    (cd "$temp" && apt-get -q -o APT::Sandbox::User=root download containerd)
    dpkg -x "$temp"/containerd_*.deb "$temp/root"
    mkdir -p "$dir/debian"
    cp "$temp/root/usr/bin/containerd" "$temp/root/usr/bin/ctr" "$dir/debian/"
fi

if [ ! -x "$dir/$version/ctr" ]; then
    echo "containerd: building $version"
    GOBIN="$dir/$version" GOFLAGS='' CGO_ENABLED=0 go install -tags no_btrfs,no_zfs \
        "github.com/containerd/containerd/v2/cmd/containerd@$version" "github.com/containerd/containerd/v2/cmd/ctr@$version"
fi
