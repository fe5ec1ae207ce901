#!/bin/sh
# Prints the version to build: of git's tag where there is one, else the
# newest of CHANGELOG.md, with the commit where git knows it. A checkout in which
# git does not answer, as in one of another owner, does not claim to be that
# release; an unpacked archive of the release, which has no .git, does.
cd "$(dirname "$0")/.." || exit 1

if tag=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null); then
	echo "${tag#v}"
	exit
fi
version=$(sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)
commit=$(git describe --always --dirty --exclude '*' 2>/dev/null)
[ -n "$commit" ] || [ ! -e .git ] || commit=unknown
echo "${version:-0.0.0}${commit:+-dev+$commit}"
