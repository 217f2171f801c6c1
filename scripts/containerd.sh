#!/bin/sh
# Puts daemons and clients into DIR: the distribution's containerd and ctr into
# DIR/debian, those of VERSION into DIR/VERSION and, for tests, containerd's own
# client tests beside them and nerdctl into DIR/nerdctl. Nothing is installed on
# this machine.
#
#   scripts/containerd.sh DIR VERSION [NERDCTL]
set -eu

dir=$1
version=$2
nerdctl=${3-}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
export CGO_ENABLED=0
temp=$(mktemp -d)
trap 'chmod -R u+w "$temp" && rm -rf "$temp"' EXIT

# module_dir MODULE@VERSION prints the directory of a downloaded module.
module_dir() {
    (cd "$temp" && GOFLAGS=-mod=mod go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

if [ ! -x "$dir/debian/ctr" ]; then
    (cd "$temp" && apt-get -q -o APT::Sandbox::User=root download containerd)
    dpkg -x "$temp"/containerd_*.deb "$temp/root"
    mkdir -p "$dir/debian"
    cp "$temp/root/usr/bin/containerd" "$temp/root/usr/bin/ctr" "$dir/debian/"
fi

if [ ! -x "$dir/$version/ctr" ]; then
    echo "containerd: building $version"
    GOBIN="$dir/$version" GOFLAGS='' go install -tags no_btrfs,no_zfs \
        "github.com/containerd/containerd/v2/cmd/containerd@$version" "github.com/containerd/containerd/v2/cmd/ctr@$version"
fi

[ -n "$nerdctl" ] || exit 0

if [ ! -x "$dir/$version/client.test" ]; then
    echo "containerd: building the client tests of $version"
    cd "$(module_dir "github.com/containerd/containerd/v2@$version")"
    go test -c -tags no_btrfs,no_zfs -o "$dir/$version/client.test" ./integration/client
fi

# nerdctl's module cannot be installed as it is: it replaces a module that only
# its tests need by a directory that is not part of what is downloaded.
if [ "$(cat "$dir/nerdctl.version" 2>/dev/null)" != "$nerdctl" ]; then
    echo "nerdctl: building $nerdctl"
    cp -r "$(module_dir "github.com/containerd/nerdctl/v2@$nerdctl")" "$temp/nerdctl"
    chmod -R u+w "$temp/nerdctl"
    cd "$temp/nerdctl"
    rm -f cmd/nerdctl/helpers/testing*.go
    go mod edit -droprequire github.com/containerd/nerdctl/mod/tigron \
        -dropreplace github.com/containerd/nerdctl/mod/tigron@v0.0.0
    GOFLAGS=-mod=mod go build -trimpath -ldflags '-s -w' -o "$dir/nerdctl" ./cmd/nerdctl
    echo "$nerdctl" >"$dir/nerdctl.version"
fi
