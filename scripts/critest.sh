#!/bin/sh
# Builds crictl of VERSION of cri-tools into DIR and, with a DIGEST, critest too,
# and puts the distribution's busybox that is not static beside them, for images.
# critest pulls one image by a digest that is built in; it becomes DIGEST. Nothing
# is installed on this machine.
#
#   scripts/critest.sh DIR VERSION [DIGEST]
set -eu

dir=$1
version=$2
digest=${3-}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
program=crictl
[ -z "$digest" ] || program=critest
built="$version $digest"
if [ -x "$dir/$program" ] && [ "$(cat "$dir/$program.built" 2>/dev/null)" = "$built" ]; then
    exit 0
fi

temp=$(mktemp -d)
trap 'chmod -R u+w "$temp" && rm -rf "$temp"' EXIT
module=$(cd "$temp" && GOFLAGS=-mod=mod go mod download -json "sigs.k8s.io/cri-tools@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')

# Its go.mod has another name than the one it is published by, so that it cannot
# be installed as it is.
cp -r "$module" "$temp/cri-tools"
chmod -R u+w "$temp/cri-tools"
export CGO_ENABLED=0
(cd "$temp/cri-tools" && GOFLAGS=-mod=mod go build -trimpath -ldflags '-s -w' -o "$dir/crictl" ./cmd/crictl)
if [ -n "$digest" ]; then
    sed -i "s/test-image-digest@sha256:[0-9a-f]*/test-image-digest@$digest/" "$temp/cri-tools/pkg/validate/consts.go"
    (cd "$temp/cri-tools" && GOFLAGS=-mod=mod go test -c -trimpath -ldflags '-s -w' -o "$dir/critest" ./cmd/critest)
    (cd "$temp" && apt-get -q -o APT::Sandbox::User=root download busybox)
    dpkg -x "$temp"/busybox_*.deb "$temp/root"
    cp "$temp/root/bin/busybox" "$dir/busybox"
fi
echo "$built" >"$dir/$program.built"
