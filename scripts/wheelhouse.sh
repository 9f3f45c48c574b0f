#!/bin/sh
# Gather all wheels that installing ovs-lwt takes, for hosts without a registry: `make wheelhouse`.
#
#   PYTHONS     the Pythons of the hosts (default: that of .venv)
#   EXTRA       an extra of pyproject.toml that the hosts want, too: ryu
#   WHEELHOUSE  where the wheels go (default: build/wheelhouse), in place of what is there
#
# The wheels are for this processor and for the Pythons named. What has no wheel becomes one.
set -eu
top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$top"

# shellcheck source=scripts/pins.sh
. scripts/pins.sh

wheelhouse=${WHEELHOUSE:-build/wheelhouse}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Ryu is built by old versions of what builds: constraints.txt names one of setuptools alone.
cp constraints.txt "$work/constraints.txt"
case ${EXTRA:-} in
    *ryu*)
        grep -v '^setuptools==' constraints.txt >"$work/constraints.txt"
        cat scripts/ryu-build.txt >>"$work/constraints.txt"
        ;;
esac

for python in ${PYTHONS:-.venv/bin/python}; do
    "$python" -m venv --clear "$work/venv"
    pip_with "$work/constraints.txt" "$work/venv/bin/python" wheel --quiet \
        --find-links "$work/wheels" --wheel-dir "$work/wheels" ".${EXTRA:+[$EXTRA]}" </dev/null
done
mkdir -p "$wheelhouse"
rm -f "$wheelhouse"/*.whl
cp "$work"/wheels/*.whl "$wheelhouse/"
echo "$wheelhouse: $(find "$wheelhouse" -name '*.whl' | wc -l) wheels, $(du -sh "$wheelhouse" | cut -f 1)"
