#!/bin/sh
# `make test-fresh`: what a newcomer types, in bare roots of Debian: sudo make demo, sudo make test.
#
# A root is debootstrap's smallest, with git, make and sudo; a clone of this checkout's last commit
# belongs to a user there, who may use sudo. What is reached from the root is what this machine
# reaches: Debian by its apt's sources, Python packages by its pip's settings. All of it lives in
# build/fresh and in namespaces of its own (the network is this machine's). Nothing is left of it,
# but a log in build/fresh/ROOT.log.
#
#   ROOTS       which Debians (default: bookworm trixie)
#   COMMANDS    which of demo and test (default: both)
#   ARGS        what pytest is given
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
build=$checkout/build/fresh

say() { printf 'test-fresh: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}
# shellcheck source=scripts/packages.sh
. "$checkout/scripts/packages.sh"

[ "$(id -u)" -eq 0 ] || die 'needs root: sudo make test-fresh'
# shellcheck disable=SC2046 # one package a word
install $(missing debootstrap:debootstrap git:git unshare:util-linux)

# shellcheck disable=SC2016 # apt expands it
mirror() {
    apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}
mirror=$(mirror)
[ -n "$mirror" ] || { apt-get update -qq && mirror=$(mirror); }
[ -n "$mirror" ] || die "apt knows no Debian archive here: its sources say where the roots come from"
[ -z "$(git -C "$checkout" status --porcelain)" ] ||
    say 'what has not been committed is not tested'

failed=''
for root in ${ROOTS:-bookworm trixie}; do
    folder=$build/$root
    log=$build/$root.log
    rm -rf --one-file-system "$folder"
    mkdir -p "$folder"
    trap 'rm -rf --one-file-system "$folder"' EXIT
    trap 'exit 130' HUP INT TERM
    say "$root: debootstrap"
    debootstrap --variant=minbase --include=git,make,sudo "$root" "$folder" "$mirror" \
        >"$log" 2>&1 || { tail -n 20 "$log" && die "debootstrap: see $log"; }
    # What apt needs here to reach its archive (a proxy, a clock that stands still), it needs there.
    apt-config dump --format '%F "%v";%n' Acquire >"$folder/etc/apt/apt.conf.d/90machine"
    "$here/pip.sh" "$checkout/.venv/bin/python" "$folder"
    git clone -q --no-hardlinks "file://$checkout" "$folder/srv/ovs-lwt"
    for command in ${COMMANDS:-demo test}; do
        set --
        [ "$command" != test ] || set -- "ARGS=${ARGS:-}"
        say "$root: sudo make $command $*"
        started=$(date +%s)
        # --kill-child: whatever ends this, also by SIGKILL, ends everything below.
        if unshare --mount --pid --ipc --uts --fork --kill-child \
            "$here/inside.sh" "$folder" "$command" "$@" 2>&1 | tee -a "$log" &&
            tail -n 1 "$log" | grep -qx 'exit status: 0'; then
            say "$root: sudo make $command: passed after $(($(date +%s) - started)) s"
        else
            say "$root: sudo make $command: FAILED after $(($(date +%s) - started)) s, see $log"
            failed="$failed $root:$command"
        fi
    done
    rm -rf --one-file-system "$folder"
done
[ -z "$failed" ] || die "FAILED:$failed"
say 'passed'
