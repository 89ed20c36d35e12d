# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# What pip cannot bring, by apt.  Read by ./dev.

# ask EXPRESSION: its value in the Python that the environment is made from
ask() { "$python" -c "import sys, sysconfig; print($1)"; }

compiles() {
    cc=${CC:-$(ask 'sysconfig.get_config_var("CC")')}
    # shellcheck disable=SC2086
    echo '#include <stdio.h>' | $cc -fsyntax-only -x c - 2>/dev/null
}

supported_python() {
    [ "$(ask '(3, 11) <= sys.version_info < (3, 14)' 2>/dev/null)" = True ] \
        || die "$python is not a Python 3.11, 3.12 or 3.13; name one:" \
            "PYTHON=/path/to/python3 ./dev …"
}

# watched COMMAND…: runs pip or apt-get, naming what they get as it comes
watched() {
    log=$(mktemp)
    printf 'ibhostdev:  ' >&2
    {
        export PYTHONUNBUFFERED=1 DEBIAN_FRONTEND=noninteractive
        "$@" </dev/null 2>&1 || echo "ended with $?"
    } | tee "$log" | while read -r word name more; do
        case "$word $name $more" in
            'Collecting '*) ;;
            'Setting up '*) name=${more%% *} ;;
            'Building '*': started') name='(building)' ;;
            'Installing collected '*) name='(installing)' ;;
            *) continue ;;
        esac
        printf ' %s' "${name%%[<>=!~;:]*}"
    done >&2
    echo >&2
    case $(tail -n 1 "$log") in
        'ended with '*)
            cat "$log" >&2
            rm "$log"
            die "failed: $*"
            ;;
    esac
    rm "$log"
}

# By turns: apt-get gives up at once where another is at it.
apt_get() { flock /var/lib/dpkg apt-get "$@"; }

apt_install() {
    apt_get update && apt_get install -y --no-install-recommends "$@"
}

# need PACKAGE…: from Debian, by apt if we may, else it is said how
need() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null \
        || die "needs what Debian calls $*; install that and try again"
    if [ "$(id -u)" != 0 ]; then
        say "needs system packages that only root can install. In a root" \
            "shell ('sudo -i', or 'su -') run"
        printf '    apt-get update && apt-get install %s %s\n' \
            --no-install-recommends "$*" >&2
        die "and try again"
    fi
    say "installing $*"
    watched apt_install "$@"
}

# Debian splits the compiler, Python's headers and the pip that venv puts
# into a new environment into packages of their own.  libvirt's binding, for
# the tests of guests, is compiled against the system's libvirt.
system_packages() {
    packages=
    version=$(ask '"%d.%d" % sys.version_info[:2]')
    "$python" -c 'import ensurepip' 2>/dev/null \
        || packages="python$version-venv"
    [ -e "$(ask 'sysconfig.get_path("include")')/Python.h" ] \
        || packages="$packages python$version-dev"
    if [ -n "$packages" ] && [ "$(ask sys.base_prefix)" != /usr ]; then
        die "$python lacks its headers or ensurepip; take another, such" \
            "as PYTHON=/usr/bin/python3 ./dev …"
    fi
    compiles || packages="gcc libc6-dev $packages"
    [ "$1" = demo ] || pkg-config --exists libvirt 2>/dev/null \
        || packages="$packages libvirt-dev pkg-config"
    # shellcheck disable=SC2086
    need $packages
}
