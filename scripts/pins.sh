#!/bin/sh
# To be sourced: pip, with the versions of a file in what it installs and in what it builds.
#
#   pip_with FILE PYTHON WORDS...   run PYTHON -m pip WORDS... with the constraints in FILE

pip_with() {
    # pip takes these variables for lists of words, and reads them again in a folder of its own when
    # it builds: a URL is absolute and has no spaces, whatever the folder is called.
    url=$("$2" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).absolute().as_uri())' "$1")
    python_of_pip=$2
    shift 2
    # pip before 26.2 builds with the first, later ones with the second. PEP 517 is the way in which
    # newer ones build, and older ones where the package wants it: in an environment of its own.
    PIP_CONSTRAINT=$url PIP_BUILD_CONSTRAINT=$url PIP_USE_PEP517=1 \
        "$python_of_pip" -m pip --disable-pip-version-check --no-input "$@"
}
