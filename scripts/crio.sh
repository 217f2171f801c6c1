#!/bin/sh
# Puts CRI-O of VERSION, its program for namespaces, and crictl of CRICTL into DIR.
# Nothing is installed on this machine.
#
#   scripts/crio.sh DIR VERSION CRICTL
set -eu

dir=$1
version=$2
crictl=$3
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ "$(cat "$dir/built" 2>/dev/null)" = "$version $crictl" ]; then
    exit 0
fi

temp=$(mktemp -d)
trap 'chmod -R u+w "$temp" && rm -rf "$temp"' EXIT
export GOFLAGS=-mod=mod

# copy MODULE@VERSION NAME puts the source of a module into a directory to build in.
copy() {
    module=$(cd "$temp" && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    cp -r "$module" "$temp/$2"
    chmod -R u+w "$temp/$2"
}

echo "crio: building $version"
copy "github.com/cri-o/cri-o@$version" crio
(cd "$temp/crio" && CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' \
    -tags 'seccomp containers_image_openpgp exclude_graphdriver_btrfs btrfs_noversion exclude_graphdriver_devicemapper' \
    -o "$dir/crio" ./cmd/crio)
make -s -C "$temp/crio/pinns" >/dev/null
cp "$temp/crio/bin/pinns" "$dir/"

# Its go.mod has another name than the one it is published by.
copy "sigs.k8s.io/cri-tools@$crictl" cri-tools
(cd "$temp/cri-tools" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/crictl" ./cmd/crictl)
echo "$version $crictl" >"$dir/built"
