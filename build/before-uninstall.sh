#!/bin/sh
# Stops the units before their files go. The services that the agent started
# would live on (KillMode=process), so they are named.
[ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] || exit 0
for unit in dominion-domain dominion; do
	systemctl disable --now "$unit" 2>/dev/null
done
group=/sys/fs/cgroup/system.slice/dominion-domain.service
pids=$(find $group -name cgroup.procs -exec cat {} + 2>/dev/null | tr '\n' ' ')
[ -z "$pids" ] || echo "services still run: processes $pids(systemctl kill dominion-domain ends them)"
