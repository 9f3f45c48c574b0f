#!/bin/sh
# Prepare this machine and this checkout: Debian packages, .venv (os-ken) and .venv-ryu (Ryu).
#
#   scripts/setup.sh        installs what is missing; a second run finds nothing to do
#   scripts/setup.sh test   also installs what only the tests need
#   PYTHON=/path/to/python  chooses the Python (3.11 or newer) for the environments
#
# Debian 12 and Ubuntu 24.04 or newer. Needs root only if a Debian package is missing.
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

# --- Debian packages ---------------------------------------------------------------------------

# COMMAND:PACKAGE
tools='ovs-vswitchd:openvswitch-switch ovsdb-server:openvswitch-switch ip:iproute2
ping:iputils-ping ethtool:ethtool tcpdump:tcpdump sysctl:procps
nft:nftables linux.uml:user-mode-linux modprobe:kmod'
# Only the tests need these: they check shell scripts, the Vagrantfile and systemd's units.
[ "${1:-}" != test ] || tools="$tools shellcheck:shellcheck vagrant:vagrant systemd-analyze:systemd"

missing_packages() {
    # shellcheck disable=SC2086 # one pair a word
    missing $tools
    [ -n "${PYTHON:-}" ] || find_python >/dev/null || echo python3
    # User-mode Linux knows no AMX: where the processor has it, the lab compiles a library that helps.
    if grep -qw amx_tile /proc/cpuinfo; then
        missing cc:gcc
        [ -e /usr/include/dlfcn.h ] || echo libc6-dev
    fi
}

# Debian has the module that makes environments in a package of its own. They need no compiler: what
# has no wheel (Ryu, ovs) is plain Python.
missing_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo "$(basename "$1")-venv"
}

# --- Python ------------------------------------------------------------------------------------

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# One environment: make_venv FOLDER EXTRAS. It is remade when pyproject.toml, this script or
# $PYTHON changes, or when its Python is gone.
make_venv() {
    folder=$1
    extras=$2
    stamp=$folder/.ovs-lwt
    state=$({ echo "$extras ${PYTHON:-}" && cat pyproject.toml scripts/setup.sh; } | cksum)
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && "$folder/bin/python" -c ''; then
        return 0
    fi
    say "building $folder with $("$python" -V): a minute or two"
    "$python" -m venv --clear "$folder"
    # Ryu's setup.py fails on newer setuptools; 66.1 is the first that runs on Python 3.12.
    case $extras in
        *ryu*)
            echo 'setuptools>=66.1,<67' >"$folder/build-constraint.txt"
            export PIP_CONSTRAINT="$folder/build-constraint.txt"
            ;;
    esac
    if ! "$folder/bin/python" -m pip --disable-pip-version-check --no-input \
        install -e ".[$extras]" </dev/null >"$folder/pip.log" 2>&1; then
        cat "$folder/pip.log" >&2
        die "pip could not build $folder: see above"
    fi
    echo "$state" >"$stamp"
}

# shellcheck disable=SC2046 # one package a word
install $(missing_packages | sort -u)
python=$(find_python) ||
    die "no Python 3.11 or newer here (tried ${PYTHON:-python3.11 to python3.14, python3}); \
install one, or name it: PYTHON=/path/to/python3.11 make setup"
# shellcheck disable=SC2046
install $(missing_venv "$python")
make_venv .venv test
make_venv .venv-ryu ryu
