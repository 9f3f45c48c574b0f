#!/bin/sh
# Prepare this machine and this checkout for one purpose, and for no more than that.
#
#   scripts/setup.sh [run]  Open vSwitch, nftables, and .venv with what ovs-lwt imports
#   scripts/setup.sh demo   run, and what the demo tells its reader to type
#   scripts/setup.sh lab    run, and what the lab's own kernels take
#   scripts/setup.sh lint   .venv with the linters and the type checker
#   scripts/setup.sh test   all that a test calls or imports; .venv-ryu with Ryu
#   scripts/setup.sh dev    test and lint, and what draws, profiles and commits
#
#   PYTHON=/path/to/python  the Python (3.11 or newer) of the environments
#   LATEST=yes              the newest of everything, in build/latest, not what constraints.txt says
#
# What is there is kept, so a second run finds nothing to do. Debian 12 and Ubuntu 24.04 or newer.
# Needs root only if a Debian package is missing.
set -eu

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/pins.sh
. scripts/pins.sh

# --- What each purpose takes -------------------------------------------------------------------

# Print the Debian packages that a purpose lacks here: COMMAND:PACKAGE, and what has no command.
packages() {
    case $1 in
        run)
            # With nft the agent keeps what a guest sends out of the host's own stack.
            missing ovs-vswitchd:openvswitch-switch ovsdb-server:openvswitch-switch ip:iproute2 \
                nft:nftables
            ;;
        demo)
            packages run
            missing ping:iputils-ping tcpdump:tcpdump
            ;;
        lab)
            packages run
            missing linux.uml:user-mode-linux qemu-system-x86_64:qemu-system-x86 modprobe:kmod
            # User-mode Linux knows no AMX: where the processor has it, the lab compiles a library
            # that helps.
            if grep -qw amx_tile /proc/cpuinfo; then
                missing cc:gcc
                [ -e /usr/include/dlfcn.h ] || echo libc6-dev
            fi
            ;;
        lint) missing shellcheck:shellcheck ;;
        test)
            packages demo
            packages lab
            missing ethtool:ethtool sysctl:procps
            # These check the Vagrantfile and systemd's units.
            missing vagrant:vagrant systemd-analyze:systemd
            # One guest is libvirt's. None of these starts a service.
            missing libvirtd:libvirt-daemon virt-qemu-run:libvirt-daemon-driver-qemu \
                virsh:libvirt-clients
            ;;
        dev)
            packages test
            packages lint
            ;;
    esac
}

# Make the Python environments of a purpose: FOLDER EXTRA, an extra of pyproject.toml or `run`.
environments() {
    case $1 in
        run | demo | lab) environment .venv run ;;
        lint) environment .venv lint ;;
        test)
            environment .venv test
            environment .venv-ryu ryu
            ;;
        dev)
            environment .venv dev
            environment .venv-ryu ryu
            ;;
    esac
}

# The tests have a virtual machine of Debian's own kernel; `ovs-lwt lab` fetches it when it needs it.
kernels() {
    case $1 in
        test | dev)
            "${LATEST:+build/latest/}.venv/bin/python" -m ovs_lwt.lab.kernel.vm ||
                say 'without that kernel, the tests that need it will fail'
            ;;
    esac
}

# --- Python ------------------------------------------------------------------------------------

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.11 python3.12 python3.13 python3.14 python3
    fi
    for candidate; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Debian has the module that makes environments in a package of its own. They need no compiler: what
# has no wheel (Ryu, ovs) is plain Python.
missing_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo "$(basename "$1")-venv"
}

# Print the versions for an extra; pip also builds with them what has no wheel.
pins() {
    case ${LATEST:+latest}-$1 in
        latest-ryu) cat scripts/ryu-build.txt ;;
        latest-*) ;;
        -ryu)
            grep -v '^setuptools==' constraints.txt
            cat scripts/ryu-build.txt
            ;;
        -*) cat constraints.txt ;;
    esac
}

pip() {
    folder=$1
    shift
    if ! pip_with "$folder/constraints.txt" "$folder/bin/python" "$@" \
        </dev/null >"$folder/pip.log" 2>&1; then
        cat "$folder/pip.log" >&2
        die "pip could not build $folder: see above"
    fi
}

# environment FOLDER EXTRA: make the environment, or add the extra to it. It is made anew when
# pyproject.toml, constraints.txt, this script or $PYTHON changes, or when its Python is gone.
environment() {
    folder=${LATEST:+build/latest/}$1
    extra=$2
    # Its first line is what the environment was made from, each other line an extra that it has.
    stamp=$folder/.ovs-lwt
    state=$({ echo "${PYTHON:-}" && cat pyproject.toml constraints.txt scripts/setup.sh \
        scripts/ryu-build.txt; } | cksum)
    made_from=$(head -n 1 "$stamp" 2>/dev/null || true)
    if [ "$made_from" = "$state" ] && "$folder/bin/python" -c '' 2>/dev/null; then
        [ "$extra" != run ] || return 0
        ! grep -qx "$extra" "$stamp" || return 0
        say "adding to $folder what '$extra' takes: a minute"
    else
        made_from=''
        say "building $folder with $("$python" -V): a minute or two"
    fi
    [ ! -e "$folder" ] || [ -w "$folder" ] ||
        die "$folder belongs to $(stat -c %U "$folder"), who must run this: with sudo, if that is root"
    [ -n "$made_from" ] || "$python" -m venv --clear "$folder"
    pins "$extra" >"$folder/constraints.txt"
    [ -n "$made_from" ] || [ -z "${LATEST:-}" ] || pip "$folder" install --upgrade pip
    case $extra in
        run) pip "$folder" install -e . ;;
        *) pip "$folder" install -e ".[$extra]" ;;
    esac
    [ -n "$made_from" ] || echo "$state" >"$stamp"
    echo "$extra" >>"$stamp"
}

# -----------------------------------------------------------------------------------------------

purpose=${1:-run}
case $purpose in
    run | demo | lab | lint | test | dev) ;;
    *) die "no purpose '$purpose': run, demo, lab, lint, test or dev" ;;
esac
# shellcheck disable=SC2046 # one package a word
install $({ packages "$purpose" && { find_python >/dev/null || [ -n "${PYTHON:-}" ] || echo python3; }; } |
    sort -u)
python=$(find_python) ||
    die "no Python 3.11 or newer here (tried ${PYTHON:-python3.11 to python3.14, python3}); \
install one, or name it: PYTHON=/path/to/python3.11 make setup"
# shellcheck disable=SC2046
install $(missing_venv "$python")
environments "$purpose"
kernels "$purpose"
