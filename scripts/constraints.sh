#!/bin/sh
# Renew constraints.txt: the newest versions of everything that pyproject.toml names, for all Pythons
# that it allows. `make constraints` runs this; whoever commits the result runs the tests before.
set -eu
cd "$(dirname -- "$0")/.."

# uv is in an environment of its own, so that it works also while the versions of today do not.
uv=build/uv/bin/uv
[ -x "$uv" ] || python3 -m venv build/uv
build/uv/bin/python -m pip install -q --disable-pip-version-check --upgrade uv

# uv does not read pip's settings: the one that says where packages are.
UV_DEFAULT_INDEX=$(build/uv/bin/python -m pip config get global.index-url 2>/dev/null || true)
[ -z "$UV_DEFAULT_INDEX" ] || export UV_DEFAULT_INDEX

"$uv" pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --group build \
    --build-constraint scripts/ryu-build.txt --no-annotate --no-header --output-file build/new.txt \
    pyproject.toml
{
    echo '# Versions that were tested together, on all Pythons that are supported: set-up installs, and'
    echo '# builds, with these. Written by scripts/constraints.sh (make constraints).'
    cat build/new.txt
} >constraints.txt
rm build/new.txt
git --no-pager diff --stat -- constraints.txt
