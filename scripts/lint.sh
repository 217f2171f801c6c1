#!/bin/sh
# Runs golangci-lint and shellcheck over the project:
#
#   scripts/lint.sh TOOLS VERSION
#
# golangci-lint of that version is taken from PATH or from TOOLS, and installed
# into TOOLS where neither has it. Another version would judge differently.
set -eu

tools=$1
version=$2

has_version() { "$1" version 2>/dev/null | grep -q "version $version "; }

if has_version golangci-lint; then
    lint=golangci-lint
else
    mkdir -p "$tools"
    lint=$(cd "$tools" && pwd)/golangci-lint
    if ! has_version "$lint"; then
        echo "lint: installing golangci-lint $version into $tools, which takes some minutes" >&2
        GOBIN=$(dirname "$lint") go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
    fi
fi

status=0
"$lint" run ./... || status=1
if [ -f test/go.mod ]; then
    (cd test && "$lint" run --config ../.golangci.yml ./...) || status=1
fi
find scripts test hack .ci -type f \( -name '*.sh' -o -path '.ci/*' \) -exec shellcheck -x {} + || status=1
exit $status
