#!/bin/sh
# Sees to it that what the end-to-end tests need is there: root for network
# namespaces, mosquitto and its clients, ip, a Python, nginx, Caddy, a C compiler
# with Eclipse Paho C, and Chromium with npm. Programs that are missing are
# installed. The tests themselves skip what they cannot try; who
# asked for them is told here instead.
if [ "$(id -u)" != 0 ]; then
	echo "cannot run the end-to-end tests: the network namespaces of their hosts need root" >&2
	exit 1
fi
missing=
for need in mosquitto:mosquitto mosquitto_sub:mosquitto-clients ip:iproute2 python3:python3 git:git nginx:nginx caddy:caddy cc:gcc chromium:chromium node:nodejs npm:npm; do
	command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
echo '#include <MQTTClient.h>' | cc -E - >/dev/null 2>&1 || missing="$missing libc6-dev libpaho-mqtt-dev"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "cannot run the end-to-end tests: install$missing first" >&2
	exit 1
fi
# A package that starts its service at once would take port 1883.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
	trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing
