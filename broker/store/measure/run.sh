#!/bin/sh
# Measures the storage libraries: the table of docs/decisions/0020-storage.md.
# Needs strace, for counting syncs; as root it tries a full disk as well.
# DIR is on the disk to measure.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d "${DIR:-/tmp}/measure.XXXXXX")
trap 'umount "$work/full" 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
mkdir "$work/full" "$work/data"
for name in ${*:-bare ours tidwall wlog raftwal bbolt pebble badger}; do
	go build -trimpath -ldflags "-s -w" -o "$work/$name" "./$name"
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=6 go build -o /dev/null "./$name" || echo "$name does not build for arm/6"
	MEASURE_DIR="$work/data" timeout 150 strace --seccomp-bpf -f -c -e trace=fsync,fdatasync,msync \
		-o "$work/calls" "$work/$name" || echo "$name took too long"
	awk '/sync$/ {n += $4} END {printf "    syncs %d", n}' "$work/calls"
	echo "  program $(($(wc -c <"$work/$name") / 1024)) kB"
	mkdir -p "$work/torn"
	timeout 60 "$work/$name" torn "$work/torn" 2>&1 | head -n 1 | sed 's/^/    /'
	if mount -t tmpfs -o size=64m measure "$work/full" 2>/dev/null; then
		timeout 60 "$work/$name" full "$work/full" 2>&1 | grep -v 'background error' | cut -c1-120 | head -n 4 | sed 's/^/    /'
		umount "$work/full"
	fi
done
