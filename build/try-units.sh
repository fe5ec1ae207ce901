#!/bin/sh
# Walks the first five minutes of docs/tutorial.md under a real systemd:
# install, hub and domain, the first service, a restart of both, uninstall.
#
# That systemd is process 1 of a machine of its own: namespaces, and an overlay
# on this one's files in memory, so nothing here is changed. Needs root, systemd
# and python3, and bin/ to be built.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = steps ]; then # what follows runs inside
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	trap 'journalctl -b --no-pager -o short-monotonic -u dominion -u dominion-domain | tail -n 40; systemctl --no-block exit 1' EXIT
	until_true() { # WHAT COMMAND…: within 20 s
		what=$1 tries=100
		shift
		until "$@" >/dev/null 2>&1; do
			tries=$((tries - 1))
			[ $tries -gt 0 ] || { echo "not seen: $what" && exit 1; }
			sleep 0.2
		done
		echo "seen: $what"
	}
	service_is() { dominionctl services --json | grep -q "\"state\": *\"$1\""; }
	nothing_runs() { ! pgrep -f 'http[.]server|local/bin/dom'; }
	# The next steps are run as install prints them, and no file is edited.
	make -s install >/run/installed
	sed -n 's/^  sudo //p' /run/installed >/run/steps
	look=$(sed -n 's/^  \(dominionctl .*\)/\1/p' /run/installed)
	[ "$(grep -c '^systemctl' /run/steps)" = 2 ] && [ -n "$look" ] || { cat /run/installed && echo "not seen: the next steps" && exit 1; }
	sh -e /run/steps
	until_true "hub and domain find each other after the printed steps" sh -c 'dominionctl domains | grep -q online'
	$look || { echo "not seen: the printed look" && exit 1; }

	mkdir /usr/local/dominion/services/hello
	printf 'run:\n\t@exec python3 -m http.server $(SERVICE_PORT)\n' >/usr/local/dominion/services/hello/Makefile
	printf '\n[services.hello]\npriority = "required"\nhealth = { http = "/" }\n' >>/etc/dominion/dominion.toml
	systemctl reload dominion
	until_true "the service runs" service_is running
	before=$(pgrep -f http.server)
	[ "$(ps -o user:20= -p "$before")" = dominion-services ] || { echo "not seen: it runs as dominion-services" && exit 1; }
	echo "seen: it runs as dominion-services"

	systemctl restart dominion dominion-domain
	until_true "it runs after a restart of both" service_is running
	[ "$before" = "$(pgrep -f http.server)" ] || { echo "not seen: it is the same process" && exit 1; }
	systemctl stop dominion-domain
	[ "$before" = "$(pgrep -f http.server)" ] || { echo "not seen: it outlives the agent" && exit 1; }
	echo "seen: the same process, which outlives the agent"

	make -s uninstall
	until_true "nothing is left after uninstall" nothing_runs
	trap - EXIT
	echo "try-units: everything was seen"
	systemctl --no-block exit 0
	exit
fi

if [ "${1:-}" = machine ]; then # process 1 of the new machine, before systemd
	root=$2/root checkout=$PWD
	mount --make-rprivate /
	mount -t tmpfs tmpfs "$2"
	mkdir "$2/upper" "$2/work" "$root"
	mount -t overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" overlay "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t tmpfs tmpfs "$root/sys/fs/cgroup" && mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd" 2>/dev/null ||
		{ umount "$root/sys/fs/cgroup" && mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"; }
	for dir in run tmp dev var/log; do mount -t tmpfs -o mode=755 tmpfs "$root/$dir"; done
	mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue"
	mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
	mount -t mqueue mqueue "$root/dev/mqueue"
	ln -s pts/ptmx "$root/dev/ptmx"
	while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<-END
		null 1 3
		zero 1 5
		full 1 7
		random 1 8
		urandom 1 9
		tty 5 0
		kmsg 1 11
	END
	# Of this machine's own services none: only what the steps need.
	rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/rc?.d
	: >"$root/etc/fstab"
	for unit in systemd-udevd systemd-udev-trigger systemd-sysctl systemd-logind systemd-networkd systemd-resolved systemd-timesyncd; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
	done
	mkdir -p "$root/tmp/checkout" "$root/etc/systemd/system/multi-user.target.wants"
	mount --bind "$checkout" "$root/tmp/checkout"
	: >"$root/run/out" && mount --bind "$3" "$root/run/out"
	cat >"$root/etc/systemd/system/steps.service" <<-END
		[Service]
		Type=oneshot
		TimeoutStartSec=120
		StandardOutput=append:/run/out
		StandardError=append:/run/out
		ExecStart=/bin/sh /tmp/checkout/build/try-units.sh steps
	END
	ln -s ../steps.service "$root/etc/systemd/system/multi-user.target.wants/"
	ip link set lo up
	mkdir "$root/oldroot" && cd "$root" && pivot_root . oldroot && umount -l /oldroot
	exec env container=other chroot . /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
fi

if [ "$(id -u)" != 0 ] || [ ! -x /lib/systemd/systemd ]; then
	echo "cannot try the units: it needs root, and systemd on this machine" >&2
	exit 1
fi
dir=$(mktemp -d)
out=$(mktemp)
trap 'rmdir "$dir"; rm -f "$out"' EXIT
timeout -s KILL 180 unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child \
	sh build/try-units.sh machine "$dir" "$out" || true
cat "$out"
grep -q '^try-units: everything was seen' "$out"
