#!/bin/sh
# Writes the shell completions: completion.sh PROGRAM SHARE
# A program built for another machine cannot be asked for them.
program=$1 share=$2

if ! "$program" completion bash >/dev/null 2>&1; then
	echo "left out the shell completions: $program does not run here; see dominionctl completion --help"
	exit 0
fi
write() { # SHELL FILE
	mkdir -p "$(dirname "$2")" && "$program" completion "$1" >"$2"
}
write bash "$share/bash-completion/completions/dominionctl" &&
	write zsh "$share/zsh/site-functions/_dominionctl" &&
	write fish "$share/fish/vendor_completions.d/dominionctl.fish"
