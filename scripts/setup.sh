#!/bin/sh
# Prepare this machine and this checkout: Debian packages, .venv (os-ken) and .venv-ryu (Ryu).
#
#   scripts/setup.sh        installs what is missing; a second run finds nothing to do
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

# --- Debian packages ---------------------------------------------------------------------------

# COMMAND:PACKAGE. Asking for the command, not the package, accepts what was installed by hand.
tools='ovs-vswitchd:openvswitch-switch ovsdb-server:openvswitch-switch ip:iproute2
ping:iputils-ping ethtool:ethtool tcpdump:tcpdump sysctl:procps
linux.uml:user-mode-linux modprobe:kmod'

missing_packages() {
    for pair in $tools; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
    done
    [ -n "${PYTHON:-}" ] || find_python >/dev/null || echo python3
}

# Debian has the module that makes environments in a package of its own. No compiler is needed:
# what has no wheel (Ryu, ovs) is plain Python.
missing_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo "$(basename "$1")-venv"
}

# Without systemd Debian's package would start a switch of its own, which nobody here asked for.
deny_services() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -d /run/systemd/system ] && [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
}

install() {
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || die "missing packages: $*. Needs root: sudo make setup"
    command -v apt-get >/dev/null ||
        die "missing: $*. This script knows apt-get only; install them your way and run it again"
    say "installing $*"
    deny_services
    export DEBIAN_FRONTEND=noninteractive
    # The index is fetched only if it does not know the packages, or knows versions that are gone.
    apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null 2>&1 ||
        { apt-get update -qq </dev/null &&
            apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null; } ||
        die "apt-get could not install: $*"
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
