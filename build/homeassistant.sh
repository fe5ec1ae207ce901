#!/bin/sh
# Sees to it that a real Home Assistant Core is there and prints its folder, a
# small Debian that is entered by chroot:
#
#	/venv/bin/hass       Home Assistant, version in /homeassistant
#	/conf /run /tmp      where whoever runs it mounts what it may write
#
# It is made of what the registries have by name, Python from Debian's testing
# suite (Home Assistant needs one newer than most machines have), by debootstrap
# from the mirror that apt is configured for, and `homeassistant` from where pip
# is configured to look; about 1.4 GB and five to ten minutes. It is kept in
# ${XDG_CACHE_HOME:-~/.cache}/dominion-homeassistant by version, and made anew
# where it is of an earlier year. Say which with
#
#	HOMEASSISTANT=2026.11.0         this version
#	DEBIAN_MIRROR=http://…/debian   not apt's
#
# One that was interrupted begins anew: a folder gets its name when it is whole.
# All mounts are in a mount namespace of this script's own and end with it.
set -eu

fail() {
	echo "cannot make a Home Assistant: $*" >&2
	exit 1
}

cache=${XDG_CACHE_HOME:-${HOME:?cannot find a cache folder: set HOME or XDG_CACHE_HOME}/.cache}/dominion-homeassistant
want=${HOMEASSISTANT:-}

# One at a time; the namespace is entered by starting again.
if [ "${1:-}" != inside ]; then
	[ "$(uname -s)" = Linux ] || fail "it runs in a chroot of Debian, which needs Linux"
	[ "$(id -u)" = 0 ] || fail "debootstrap and chroot need root"
	for need in unshare:util-linux flock:util-linux chroot:coreutils; do
		command -v "${need%%:*}" >/dev/null || fail "there is no ${need%%:*}, install ${need#*:}"
	done
	mkdir -p "$cache"
	exec unshare --mount --propagation private flock "$cache" sh "$0" inside
fi

# What is there of this year, the newest first.
year=$(date +%Y)
for root in $(ls -1dr "$cache"/homeassistant-* 2>/dev/null | sort -rV); do
	[ -e "$root/homeassistant" ] || continue
	if [ "$want" ]; then
		[ "$root" = "$cache/homeassistant-$want" ] || continue
	else
		[ "$(cut -d' ' -f2 "$root/homeassistant")" = "$year" ] || continue
	fi
	echo "$root"
	exit
done

# debootstrap, by its name from the system's own registry
if ! command -v debootstrap >/dev/null; then
	command -v apt-get >/dev/null || fail "there is no debootstrap, install it"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap; } >&2 ||
		fail "there is no debootstrap, and apt-get could not install it"
fi
mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
	mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		sed -n 's|^Debian \(http[^ ]*\)$|\1|p' | head -n 1)
fi
[ "$mirror" ] || fail "apt is configured for no mirror of Debian: set DEBIAN_MIRROR"

# What an interrupted run left is nobody's: this one holds the lock.
rm -rf "$cache"/unfinished-*
root=$cache/unfinished-$$
trap 'umount -R "$root" 2>/dev/null || true; rm -rf "$root"' EXIT
log=$cache/build.log
say() { echo "homeassistant: $*" >&2; }
last() { tail -n 15 "$log" >&2; }

say "a Debian with Python from $mirror (see $log)"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates testing "$root" "$mirror" >"$log" 2>&1 || {
	last
	fail "debootstrap of Debian testing from $mirror failed: is there a network?"
}
# The machine's own way out: its resolver, its certificates, its settings of pip.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
	[ ! -e $file ] || cp -L $file "$root$file"
done
mount -t proc proc "$root/proc"
inside() { chroot "$root" env HOME=/root PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }

say "homeassistant${want:+ $want} for $(inside python3 --version) by pip"
inside python3 -m venv /venv >>"$log" 2>&1 || { last; fail "python3 -m venv failed"; }
inside pip install --no-cache-dir --prefer-binary "homeassistant${want:+==$want}" >>"$log" 2>&1 || {
	last
	fail "pip could not install homeassistant${want:+ $want}: is there a network, and is this Python new enough for it?"
}
# What it would install at its first start for the parts that are always there
# and for MQTT. It has no network later on.
inside python3 - >"$root/tmp/requirements" <<'PYTHON' || fail "its lists of requirements are not as expected"
import json, pathlib
import homeassistant
from homeassistant.bootstrap import CORE_INTEGRATIONS, DEFAULT_INTEGRATIONS

components = pathlib.Path(homeassistant.__file__).parent / "components"
todo, seen, needs = ["mqtt", "frontend", *sorted(CORE_INTEGRATIONS), *sorted(DEFAULT_INTEGRATIONS)], set(), []
while todo:
    if (name := todo.pop(0)) in seen:
        continue
    seen.add(name)
    manifest = json.loads((components / name / "manifest.json").read_text())
    needs += [r for r in manifest.get("requirements", []) if r not in needs]
    todo += manifest.get("dependencies", [])
    if name == "mqtt":
        todo += manifest.get("after_dependencies", [])  # its dialogue imports them
print("\n".join(needs))
PYTHON
# Some can only be had as sources, and there is no compiler: Home Assistant
# does without those.
constraints=$(inside python3 -c 'import homeassistant, pathlib; print(pathlib.Path(homeassistant.__file__).parent / "package_constraints.txt")')
while read -r need; do
	inside pip install --no-cache-dir --prefer-binary -c "$constraints" "$need" </dev/null >>"$log" 2>&1 && continue
	case $need in
	paho-mqtt* | home-assistant-frontend*) last && fail "pip could not install $need" ;;
	esac
	say "without $need, which pip could not install"
done <"$root/tmp/requirements"

inside python3 -c 'import homeassistant.components.mqtt.config_flow' >>"$log" 2>&1 || {
	last
	fail "its MQTT integration cannot be imported: something that it needs was not installed"
}
version=$(inside hass --version) || fail "hass --version failed"
mkdir -p "$root/conf"
umount "$root/proc"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/tmp/* "$root"/root/.cache
echo "$version $year" >"$root/homeassistant"
rm -rf "$cache/homeassistant-$version"
mv "$root" "$cache/homeassistant-$version"
trap - EXIT
say "$version is in $cache/homeassistant-$version"
echo "$cache/homeassistant-$version"
