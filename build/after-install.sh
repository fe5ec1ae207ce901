#!/bin/sh
# What a running system needs after the files are in place: the users of the hub
# and of services, and the one that unpacks bundles, the hub's right to read the config, and a systemd that knows
# the units.
etc=$1

if [ "$(id -u)" = 0 ]; then
	command -v systemd-sysusers >/dev/null && systemd-sysusers dominion.conf 2>/dev/null
	for user in dominion dominion-services dominion-unpack; do # no systemd-sysusers, or it refused
		id $user >/dev/null 2>&1 ||
			useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin $user 2>/dev/null ||
			{ addgroup -S $user && adduser -S -D -H -h / -s /sbin/nologin -G $user $user; } 2>/dev/null ||
			echo "cannot make the user $user: make it by hand" >&2
	done
	if id dominion >/dev/null 2>&1; then
		# Passwords may lie here: for root and the hub alone.
		chgrp dominion "$etc" "$etc"/dominion.toml* && chmod 750 "$etc" && chmod 640 "$etc"/dominion.toml*
	fi
	[ -d /run/systemd/system ] && systemctl daemon-reload
fi
cat <<END

installed. Next:
  sudo systemctl enable --now dominion           # on one machine of the home
  sudo systemctl enable --now dominion-domain    # on each machine that runs services
  dominionctl status
configs: $etc/dominion.toml, $etc/domain.toml
END
