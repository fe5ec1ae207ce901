#!/bin/sh
# The orchestrator for a machine without Python: it serves nothing, but shows
# what any program can do with its environment alone.
trap 'echo "told to stop"; exit 0' TERM INT

echo "this is $SERVICE_NAME $SERVICE_VERSION on $DOMAIN_NAME; web is at ${DEPENDENCY_WEB:-an unknown place}"
while :; do
	date -u '+%H:%M:%S all lamps at 50' >"$SERVICE_DATA_DIR/plan"
	# In the background and waited for: the signal to stop ends the wait, not
	# only the sleep.
	sleep 5 & wait $!
done
