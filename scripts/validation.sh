#!/bin/sh
# Builds the validation programs of VERSION of OCI's runtime-tools into DIR, with
# the program and the root file system that they put into bundles.
#
#   scripts/validation.sh DIR VERSION
set -eu

dir=$1
version=$2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ "$(cat "$dir/built" 2>/dev/null)" = "$version" ]; then
    exit 0
fi

echo "runtime-tools: building the validation programs of $version"
temp=$(mktemp -d)
trap 'chmod -R u+w "$temp" && rm -rf "$temp"' EXIT
module=$(cd "$temp" && GOFLAGS=-mod=mod go mod download -json "github.com/opencontainers/runtime-tools@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
# What they need is not all in its go.sum.
cp -r "$module" "$temp/runtime-tools"
chmod -R u+w "$temp/runtime-tools"
cd "$temp/runtime-tools"
export CGO_ENABLED=0 GOFLAGS=-mod=mod
mkdir -p "$dir/programs"
for program in validation/*/; do
    name=$(basename "$program")
    [ "$name" = util ] || go build -trimpath -ldflags '-s -w' -o "$dir/programs/$name" "./$program"
done
go build -trimpath -ldflags '-s -w' -o "$dir/runtimetest" ./cmd/runtimetest
cp rootfs-amd64.tar.gz "$dir/"
echo "$version" >"$dir/built"
