# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# The environment, and the modules that are compiled.  Read by ./dev.

# The version of the environment, "3.11", without the price of starting it;
# nothing if there is none or its Python has gone.
venv_version() {
    [ -x "$venv/bin/python" ] && [ -f "$venv/pyvenv.cfg" ] || return 0
    sed -n 's/^version *= *\([0-9]*\.[0-9]*\).*/\1/p' "$venv/pyvenv.cfg"
}

# Programs in an environment name it by its full path, so that one that was
# moved is useless; pip is the last thing that a new one gets.
usable_venv() {
    version=$(venv_version)
    [ -n "$version" ] || return 1
    case $(head -n 1 "$venv/bin/pip" 2>/dev/null) in
        "#!$venv/bin/"*) ;;
        *) return 1 ;;
    esac
    [ -z "${PYTHON:-}" ] \
        || [ "$(ask '"%d.%d" % sys.version_info[:2]')" = "$version" ]
}

digest() { sha256sum | cut -d ' ' -f 1; }

packages_key() {
    {
        pwd -P
        # pip copies the hook, even of a work tree.
        cat pyproject.toml setup.py ibhostdev/guest/ibhostdev-libvirt-hook
        versions_of
    } | digest
}

sources_key() {
    { echo "${IBHOSTDEV_SANITIZE:-}"; sources; } | digest
}

sources() {
    find include ibhostdev/_native ibhostdev/ebrctl -type f '(' \
        -name '*.h' -o -name '*.py' -o -name '*.pyx' -o -name '*.pxd' \
        -o -path '*/engine/*.c' -o -path '*/ebrctl/*.c' ')' \
        -exec sha256sum '{}' + | sort
}

# The compiled modules are every Python's, but one without the global lock has
# its own beside them; their names are in the stamp too, for they may have
# been deleted.
modules() {
    find ibhostdev/_native -name "*$(abi)*.so" | sort
    ls -d ibhostdev/ebrctl/bin/ebrctl 2>/dev/null || :
}

# abi: what the names of the environment's modules have, as abi3
abi() {
    case $(echo "$venv"/lib/python*t) in
        *'*t') echo abi3 ;;
        *) echo "cpython-$(venv_version | tr -d .)t" ;;
    esac
}

fresh() { [ "$(cat "$venv/$1" 2>/dev/null)" = "$2" ]; }

# built: the stamp of the modules, which is the work tree's as they are
built() { echo "build/native-$(abi).stamp"; }

# note_built SOURCES: that they are what the modules are made of
note_built() {
    mkdir -p build
    printf '%s\n' "$1" "$(modules)" > "$(built)"
}

# requirements LIST…: pyproject.toml's, by the names of its extras and groups;
# build is what compiles the package, itself what it always needs
requirements() {
    "$venv/bin/python" -c '
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
lists = project["dependency-groups"]
lists |= project["project"]["optional-dependencies"]
lists["build"] = project["build-system"]["requires"]
lists["itself"] = project["project"]["dependencies"]
for name in sys.argv[1:]:
    print(*lists[name], sep="\n")
' "$@"
}

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
}

# versions_file [-ENVIRONMENT]: the constraints of one, if there are any:
# beside FILE.txt, FILE-ENVIRONMENT.txt is what one of the others has
versions_file() {
    [ -z "$constraints" ] || [ ! -f "${constraints%.txt}${1:-}.txt" ] \
        || echo "${constraints%.txt}${1:-}.txt"
}

# shellcheck disable=SC2046
versions_of() { cat /dev/null $(versions_file "$@"); }

# install ARGUMENT…: without a newer version than there is to be.  The build's
# requirements are in the environment itself, not in one that pip makes for
# each build: the compiled modules are rebuilt often.
install() {
    pip install --no-build-isolation ${constraints:+-c "$constraints"} "$@"
}

# install_for COMMAND KEY LIST…: the lists, unless the stamp has the key
install_for() {
    ! fresh "$1.stamp" "$2" || return 0
    stamp=$1 key=$2
    shift 2
    say "installing what ./dev $stamp needs"
    requirements "$@" > "$venv/$stamp.txt"
    watched install -r "$venv/$stamp.txt"
    [ "$stamp" != demo ] || {
        sources=$(sources_key)
        watched install -e .
        note_built "$sources"
    }
    echo "$key" > "$venv/$stamp.stamp"
}

# What one of demo, test and lint needs; each needs what those before it do.
make_packages() {
    key=$(packages_key)
    usable_venv && fresh "$1.stamp" "$key" && return
    supported_python
    system_packages "$1"
    if ! usable_venv; then
        version=$(ask 'sys.version.split()[0]')
        say "making ${venv#"$PWD/"} with Python $version"
        "$python" -m venv --clear "$venv"
    fi
    install_for demo "$key" build simulate
    [ "$1" = demo ] || install_for test "$key" test libvirt
    [ "$1" != lint ] || install_for lint "$key" lint
}

make_native() {
    sources=$(sources_key)
    [ "$(cat "$(built)" 2>/dev/null)" \
        != "$(printf '%s\n' "$sources" "$(modules)")" ] || return 0
    python=$venv/bin/python
    system_packages demo
    say "building the compiled modules"
    if ! "$venv/bin/python" setup.py --quiet build_ext --inplace --force \
        > "$venv/build.log" 2>&1
    then
        cat "$venv/build.log" >&2
        exit 1
    fi
    grep -B 1 -A 5 'warning: ' "$venv/build.log" >&2 || :
    note_built "$sources"
}

# setup FOR: what demo, test or lint need
setup() {
    venv=${VENV:-.venv}
    case $venv in
        /*) ;;
        *) venv=$PWD/$venv ;;
    esac
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null \
        || die "no $python here; needs Python 3.11 to 3.13"
    # The hash decides what is built, not Cython's look at the clock.
    export CYTHON_FORCE_REGEN=1
    # Two set-ups at once would tread on each other; the lock is on this
    # file, and only the subshell has it.
    (
        flock -n 9 || { say "waiting for another set-up"; flock 9; }
        make_packages "$1"
        make_native
    ) 9<dev
    unset CYTHON_FORCE_REGEN
    PATH=$venv/bin:$PATH
    export PATH
    [ -z "${IBHOSTDEV_SANITIZE:-}" ] || with_sanitizers
}

# Modules with gcc's sanitizers in them want theirs loaded first, and Python
# gives not all back that it has.
with_sanitizers() {
    LD_PRELOAD=$("${CC:-gcc}" -print-file-name=libasan.so)
    ASAN_OPTIONS=detect_leaks=0
    export LD_PRELOAD ASAN_OPTIONS
}
