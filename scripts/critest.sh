#!/bin/sh
# Builds critest and crictl of VERSION of cri-tools into DIR, and puts the
# distribution's busybox that is not static beside them, for images. critest pulls
# one image by a digest that is built in; it becomes DIGEST. Nothing is installed
# on this machine.
#
#   scripts/critest.sh DIR VERSION DIGEST
set -eu

dir=$1
version=$2
digest=$3
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
built="$version $digest"
if [ -x "$dir/critest" ] && [ "$(cat "$dir/built" 2>/dev/null)" = "$built" ]; then
    exit 0
fi

temp=$(mktemp -d)
trap 'chmod -R u+w "$temp" && rm -rf "$temp"' EXIT
(cd "$temp" && apt-get -q -o APT::Sandbox::User=root download busybox)
dpkg -x "$temp"/busybox_*.deb "$temp/root"
cp "$temp/root/bin/busybox" "$dir/busybox"
module=$(cd "$temp" && GOFLAGS=-mod=mod go mod download -json "sigs.k8s.io/cri-tools@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')

# Its go.mod has another name than the one it is published by, so that it cannot
# be installed as it is.
cp -r "$module" "$temp/cri-tools"
chmod -R u+w "$temp/cri-tools"
cd "$temp/cri-tools"
sed -i "s/test-image-digest@sha256:[0-9a-f]*/test-image-digest@$digest/" pkg/validate/consts.go
export CGO_ENABLED=0 GOFLAGS=-mod=mod
go build -trimpath -ldflags '-s -w' -o "$dir/crictl" ./cmd/crictl
go test -c -trimpath -ldflags '-s -w' -o "$dir/critest" ./cmd/critest
echo "$built" >"$dir/built"
