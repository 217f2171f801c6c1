#!/bin/sh
# Builds the guest image below /var/lib/dougong from a kernel, the agent and a
# static crun, unless the current one was made of the same. The kernel is the
# trimmed one where `make kernel` has built it, else Debian's cloud kernel.
#
#   scripts/guest.sh [BUILD]
#
# BUILD (default _build) has the binaries in bin/ and keeps kernel/,
# kernel-trimmed/ and crun/. KERNEL=stock takes the cloud kernel in any case.
set -eu

build=${1:-_build}
scripts=$(dirname "$0")
stamp=$build/guest.stamp
current=/var/lib/dougong/guest/current

trimmed=$build/kernel-trimmed/current
if [ "${KERNEL-}" != stock ] && [ -d "$trimmed/boot" ]; then
    kernel=$(readlink -f "$trimmed")
else
    kernel=$("$scripts/fetch-kernel.sh" "$build/kernel")
fi
crun=$("$scripts/build-crun.sh" "$build/crun")

inputs=$({
    echo "$kernel"
    sha256sum "$build/bin/dougong" "$build/bin/dougong-agent" "$crun"
} | sha256sum | cut -c 1-32)
if [ -e "$current/manifest.json" ] && [ "$inputs $(readlink "$current")" = "$(cat "$stamp" 2>/dev/null)" ]; then
    exit 0
fi
"$build/bin/dougong" guest build --kernel-root "$kernel" --agent "$build/bin/dougong-agent" --crun "$crun"
echo "$inputs $(readlink "$current")" >"$stamp"
