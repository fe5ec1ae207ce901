#!/bin/sh
# Runs every Fuzz function of the repository for a while: fuzz.sh [COUNT or TIME]
# Go fuzzes one function a run, so they are found and run one by one.
# A count ends where a time does not always: a worker that is busy at its end is
# taken for a failure now and then ("context deadline exceeded", golang/go#75804).
# An input that is made shorter for a minute, Go's default, is not fuzzed.
set -e
cd "$(dirname "$0")/.."
time=${1:-20000x}

found=0
for file in $(find . -name '*_test.go' -not -path './.cache/*' | sort); do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		found=$((found + 1))
		echo "fuzz $(dirname "$file") $name for $time"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x "$(dirname "$file")"
	done
done
[ "$found" -gt 0 ] || { echo "cannot fuzz: no Fuzz function found"; exit 1; }
