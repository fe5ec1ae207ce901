#!/bin/sh
# An example service in POSIX shell: a lamp. It asks the orchestrator what to
# do and shines, which here means a word in its data directory and a line in
# its log when that changes.
trap 'echo "off: told to stop"; echo off >"$SERVICE_DATA_DIR/state"; exit 0' TERM INT

orchestrator=$DEPENDENCY_ORCHESTRATOR
echo "lamp on $DOMAIN_NAME; the orchestrator is at ${orchestrator:-an unknown place}"

# Whatever the machine has: curl, wget (busybox has one), or nothing.
ask() {
	if command -v curl >/dev/null; then
		curl -fsS -m 2 "http://$orchestrator/lamp"
	elif command -v wget >/dev/null; then
		wget -q -T 2 -O - "http://$orchestrator/lamp"
	fi 2>/dev/null | tail -n 1
}

# Shows the home what the lamp does. On any machine but the hub's own the broker is reached by TLS, with the
# certificate of this service, which is read anew each time.
publish() {
	timeout 5 mosquitto_pub -h "$DOMINION_IP" -p "$DOMINION_PORT" \
		${DOMINION_CERT_FILE:+--cafile "$DOMINION_CA_FILE" --cert "$DOMINION_CERT_FILE" --key "$DOMINION_KEY_FILE"} \
		-r -t "lamp/$DOMAIN_NAME/state" -m "$1" 2>/dev/null &
	wait $! # the signal to stop ends the wait
}

before= published=
while :; do
	state=$(ask)
	case $state in
	on*|off) ;;
	*) state='on 50' ;; # nobody to ask: a lamp that is switched on shines
	esac
	if [ "$state" != "$before" ]; then
		echo "$state"
		echo "$state" >"$SERVICE_DATA_DIR/state"
		before=$state
	fi
	# A broker that is away, or a certificate that is not there yet, is tried again.
	if [ "$state" != "$published" ] && command -v mosquitto_pub >/dev/null && publish "$state"; then
		published=$state
	fi
	# In the background and waited for: the signal to stop ends the wait.
	sleep 2 & wait $!
done
