#!/bin/sh
# Make sure that the programs named as arguments are there: sh scripts/ensure_system.sh redis-server chromium
# A program that is missing is installed with apt-get where we may (root, or sudo without a password);
# where we may not, the message names what is missing. A name here is both the command and Debian's package.
set -eu
PATH="$PATH:/usr/sbin:/sbin" # servers are there, and not everybody looks there

absent() {
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
    done
}

missing=$(absent "$@")
missing=${missing% }
[ -n "$missing" ] || exit 0

give_up() {
    echo "missing: $missing" >&2
    echo "$1; install these (on Debian: apt-get install $missing) and run make again" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get here"
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    give_up "installing them needs root, or sudo without a password"
fi

echo "installing with apt-get: $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1; }
# shellcheck disable=SC2086  # a list of names
if ! { apt update && apt install -y --no-install-recommends $missing; }; then
    tail -n 20 "$log" >&2
    give_up "apt-get failed (above)"
fi
missing=$(absent "$@")
missing=${missing% }
[ -z "$missing" ] || give_up "apt-get went well, and yet they are not on the PATH"
