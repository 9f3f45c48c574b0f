#!/bin/sh
# To be sourced: Debian packages for the scripts of this checkout, which bring `say` and `die`.
#
#   missing COMMAND:PACKAGE...   print the packages whose command is not here
#   install PACKAGE...           install them; none is fine

# Asking for the command, not the package, accepts what was installed by hand.
missing() {
    for pair; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
    done
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
    [ "$(id -u)" -eq 0 ] || die "missing packages: $*. Installing them needs root: sudo"
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
