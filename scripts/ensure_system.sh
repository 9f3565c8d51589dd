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
# Who else installs something right now is waited for, and so is a mirror that is away for a moment.
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"; }
# An index that cannot be renewed matters only if the packages cannot be had without.
# shellcheck disable=SC2086  # a list of names
install() { apt update || :; apt install -y --no-install-recommends $missing; }
tries=1
until install >"$log" 2>&1; do
    tail -n 20 "$log" >&2
    [ "$tries" -lt 3 ] || give_up "apt-get failed $tries times (above)"
    tries=$((tries + 1))
    echo "apt-get failed (above); trying again in 20 seconds" >&2
    sleep 20
done
missing=$(absent "$@")
missing=${missing% }
[ -z "$missing" ] || give_up "apt-get went well, and yet they are not on the PATH"
