#!/bin/sh
# Runs golangci-lint and shellcheck over the project:
#
#   scripts/lint.sh TOOLS PACKAGE@VERSION
#
# golangci-lint is that of this machine when it is of just this version, else
# one installed into TOOLS: another version would judge differently.
set -eu

tools=$1
scripts/tool.sh "$2" "$tools/golangci-lint"
lint=$(cd "$tools" && pwd)/golangci-lint

status=0
"$lint" run --allow-parallel-runners ./... || status=1
# A nested module is one of its own to the linter too.
if [ -f test/go.mod ]; then
    (cd test && "$lint" run --allow-parallel-runners --config ../.golangci.yml ./...) || status=1
fi
find . -path ./_build -prune -o -path ./.git -prune -o -type f \( -name '*.sh' -o -path './.ci/*' \) -exec shellcheck -x {} + || status=1
exit $status
