#!/bin/sh
# Puts a tool of development at PATH: the one that this machine has, if it is
# of just that version, else one built by 'go install'.
#
#   scripts/tool.sh PACKAGE@VERSION PATH
set -eu

package=${1%@*}
version=${1#*@}
place=$2
name=$(basename "$place")

# matches says whether a binary was built from the package at the version.
matches() {
    go version -m "$1" 2>/dev/null | awk -v p="$package" -v v="$version" '
        $1 == "path" { path = $2 } $1 == "mod" { mod = $3 }
        END { exit !(path == p && mod == v) }'
}

mkdir -p "$(dirname "$place")"
if have=$(command -v "$name") && matches "$have"; then
    ln -sf "$have" "$place"
elif ! matches "$place"; then
    echo "tool: installing $name $version"
    GOBIN=$(cd "$(dirname "$place")" && pwd) GOFLAGS='' go install "$1"
fi
touch -h "$place" && touch "$place"
