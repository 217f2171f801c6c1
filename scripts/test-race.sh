#!/bin/sh
# Runs tests under the race detector, which needs a C compiler:
#
#   scripts/test-race.sh TAGS PACKAGE...
#
# Without a compiler it says so and succeeds. A package without tests is no
# error.
set -eu

tags=$1
shift
if ! command -v gcc >/dev/null; then
    echo "test-race: there is no gcc, so the race detector is left out (apt-get install gcc libc6-dev)" >&2
    exit 0
fi
echo "go test -race $*"
CGO_ENABLED=1 go test -race -tags "$tags" -timeout 10m "$@"
