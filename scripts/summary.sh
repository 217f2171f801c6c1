#!/bin/sh
# Sums up the logs of a test run in DIR/log; fails when a test did.
#
#   scripts/summary.sh [DIR]
set -eu

dir=${1:-_build}
total=0
for log in "$dir"/log/test-*.log; do
    [ -f "$log" ] || {
        echo "summary: no tests were run" >&2
        exit 1
    }
    passed=$(grep -c '^ok ' "$log" || true)
    failed=$(grep -c '^FAIL[[:space:]]' "$log" || true)
    printf '%-10s %3d packages passed, %d failed\n' "$(basename "$log" .log)" "$passed" "$failed"
    total=$((total + failed))
done
if [ "$total" != 0 ]; then
    grep -h '^--- FAIL\|^    --- FAIL\|^FAIL[[:space:]]' "$dir"/log/test-*.log
    exit 1
fi
echo "all tests passed"
