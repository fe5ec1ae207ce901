#!/bin/sh
# Sees to it that the programs the end-to-end tests talk with are there:
# mosquitto and its clients, ip, and a Python. As root they are installed.
missing=
for need in mosquitto:mosquitto mosquitto_sub:mosquitto-clients ip:iproute2 python3:python3; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "cannot run the end-to-end tests: install$missing first" >&2
	exit 1
fi
# A package that starts its service at once would take port 1883 from the tests.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
	trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing
