# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# Environments with others' releases, and the tests in them.  Read by ./dev.

# --- Nova ------------------------------------------------------------------

# Nova is no requirement of the package: each series has an environment of
# its own, and the package is put into it as a user would, by its wheel.
nova_packages() {
    case $1 in
        newest) echo nova ;;
        *) echo "nova==$1.0.0" ;;
    esac
    # SQLAlchemy 2.1 warns of what Nova does, and its tests take a warning
    # for a failure; setuptools 82 is without the pkg_resources that the
    # older ones import.
    printf '%s\n' 'SQLAlchemy<2.1' 'setuptools<82' openstack-placement \
        ddt fixtures flake8 hacking oslotest osprofiler PyMySQL \
        requests-mock testresources testscenarios testtools wsgi-intercept
}

# series_setup FOLDER EXTRA PACKAGE…: an environment with these packages, and
# the package's wheel with that extra.  Two commands at once may want the same.
series_setup() {
    series=$1 extra=$2
    shift 2
    (
        flock 9
        series_install "$@"
    ) 9>"$series.lock"
}

# own_wheel: the package's, in build/wheel, of the sources that $key is of;
# all series have the same.
own_wheel() {
    [ "$(cat build/wheel/stamp 2>/dev/null)" != "$key" ] || return 0
    say "making the package's wheel"
    # Of a copy, so that nothing of an older build gets into it.
    rm -rf build/wheel
    mkdir -p build/wheel/sources
    git ls-files -co --exclude-standard ibhostdev include etc setup.py \
        pyproject.toml README.md LICENSE \
        | xargs cp --parents -t build/wheel/sources
    python -m pip --disable-pip-version-check -qq wheel --no-deps \
        --no-build-isolation -w build/wheel build/wheel/sources
    echo "$key" > build/wheel/stamp
}

series_install() {
    pip="$series/bin/python -m pip --disable-pip-version-check -qq"
    key=$({ pwd -P; "$python" -V; printf '%s\n' "$@"
        versions_of "${series##*/.venv}"; } | digest)
    versions=$(versions_file "${series##*/.venv}")
    versions=${versions:+-c $versions}
    # What is the newest may be another tomorrow.
    case $series in *-newest) key=$key-$(date +%F) ;; esac
    if [ "$(cat "$series/packages.stamp" 2>/dev/null)" != "$key" ]; then
        say "installing $extra for ${series##*/}"
        "$python" -m venv --clear "$series"
        printf '%s\n' "$@" > "$series/packages.txt"
        # shellcheck disable=SC2086
        $pip install $versions -r "$series/packages.txt"
        echo "$key" > "$series/packages.stamp"
    fi
    key=$(git ls-files -co --exclude-standard ibhostdev include etc setup.py \
        pyproject.toml | xargs sha256sum | digest)
    if [ "$(cat "$series/wheel.stamp" 2>/dev/null)" != "$key" ]; then
        mkdir -p build
        (flock 8; own_wheel) 8>build/wheel.lock
        say "installing the package's wheel"
        $pip install --force-reinstall --no-deps build/wheel/*.whl
        # shellcheck disable=SC2086
        $pip install $versions "$(echo build/wheel/*.whl)[$extra,simulate]"
        echo "$key" > "$series/wheel.stamp"
    fi
}

nova_setup() {
    nova=$PWD/.venv-nova-$1
    # shellcheck disable=SC2046
    series_setup "$nova" nova $(nova_packages "$1")
    # Where Nova's functional tests look for api-paste.ini.
    site=$("$nova/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')
    [ -e "$site/etc" ] || ln -s "$nova/etc" "$site/etc"
}

# series_part WHOSE NAME COMMAND…: its closing lines, or why it failed
series_part() {
    whose=$1 name=$2
    shift 2
    say "$whose: $name"
    # From elsewhere, so that it is the wheel that is imported.
    if (cd "$series" && env PYTHONSAFEPATH=1 PYTHONPATH="$OLDPWD/$tests" \
        "$series/bin/python" "$@" > "$series/$name.log" 2>&1)
    then
        tail -n "$lines" "$series/$name.log"
    else
        grep -E '^(FAIL|ERROR): ' "$series/$name.log" | head -n 40
        tail -n 40 "$series/$name.log"
        say "the whole of it is in $series/$name.log"
        failed="$failed, $name with $whose"
    fi
}

# style WHOSE FILE…: OpenStack's
series_style() {
    whose=$1
    shift
    lines=0
    series_part "$whose" style -m flake8 --isolated --select H \
        --ignore H405 "$@"
}

# As nova-compute runs by default: from 34 on in threads, before that under
# eventlet.
nova_threads() {
    case $1 in
        31 | 32 | 33) unset OS_NOVA_DISABLE_EVENTLET_PATCHING ;;
        *) export OS_NOVA_DISABLE_EVENTLET_PATCHING=True ;;
    esac
}

nova_test() {
    failed=
    tests=tests/nova
    [ $# -gt 0 ] || set -- 31 32 33 34
    for number; do
        case $number in
            31 | 32 | 33 | 34 | newest) ;;
            *) die "no Nova $number here: 31, 32, 33, 34 or newest" ;;
        esac
        nova_setup "$number"
        nova_threads "$number"
        series_style "Nova $number" "$PWD/ibhostdev/nova"
        lines=2
        series_part "Nova $number" driver -m testtools.run \
            test_ib_driver test_fallback test_loading
        series_part "Nova $number" flows -m testtools.run test_functional
        lines=12
        series_part "Nova $number" peer "$PWD/tests/nova/peer.py"
    done
    [ -z "$failed" ] || die "nova-test failed: ${failed#, }"
    say "nova-test passed"
}

# --- Neutron ---------------------------------------------------------------

# With networking-mlnx's mechanism driver, as it is in Neutron's server; and
# what that imports from setuptools and SQLAlchemy.
neutron_packages() {
    case $1 in
        newest) echo neutron ;;
        *) echo "neutron==$1.0.0" ;;
    esac
    # As in the release's upper constraints; later ones are without what the
    # series imports.
    case $1 in
        26) echo 'neutron-lib<3.19' ;;
        27) echo 'neutron-lib<3.22' ;;
    esac
    printf '%s\n' networking-mlnx==21.0.0 'SQLAlchemy<2.1' 'setuptools<82' \
        ddt fixtures flake8 hacking oslotest PyMySQL reno testresources \
        testscenarios testtools WebTest
}

# both_test SERIES: Neutron with the Nova that was released with it
both_test() {
    case $1 in
        newest) released=newest ;;
        *) released=$(($1 + 5)) ;;
    esac
    IBHOSTDEV_NEUTRON_PYTHON=$series/bin/python
    IBHOSTDEV_NEUTRON_TESTS=$PWD/tests/neutron
    export IBHOSTDEV_NEUTRON_PYTHON IBHOSTDEV_NEUTRON_TESTS
    nova_setup "$released"
    nova_threads "$released"
    tests=tests/both:$PWD/tests/nova
    series_part "Neutron $1 and Nova $released" both -m testtools.run test_boot
    tests=tests/neutron
}

neutron_test() {
    failed=
    tests=tests/neutron
    [ $# -gt 0 ] || set -- 26 27 28 29
    for number; do
        case $number in
            26 | 27 | 28 | 29 | newest) ;;
            *) die "no Neutron $number here: 26, 27, 28, 29 or newest" ;;
        esac
        # shellcheck disable=SC2046
        series_setup "$PWD/.venv-neutron-$number" neutron \
            $(neutron_packages "$number")
        series_style "Neutron $number" "$PWD/ibhostdev/neutron/agent.py"
        lines=2
        series_part "Neutron $number" agent -m testtools.run \
            test_program test_agent
        # Of one release: what the others differ in is tried with each alone.
        case $number in 29 | newest) both_test "$number" ;; esac
    done
    [ -z "$failed" ] || die "neutron-test failed: ${failed#, }"
    say "neutron-test passed"
}

# --- The vendor ----------------------------------------------------------------

# The vendor's eswitchd, ebrctl and agent; neutron 30 has left what they import.
# And what our agent needs to take its turn there.
mlnx_packages() {
    printf '%s\n' networking-mlnx==21.0.0 'neutron<30' 'setuptools<82' \
        'SQLAlchemy<2.1'
    requirements itself neutron
}

mlnx_setup() {
    mlnx=$PWD/.venv-mlnx
    key=$({ pwd -P; "$python" -V; mlnx_packages; versions_of -mlnx; } | digest)
    [ "$(cat "$mlnx/packages.stamp" 2>/dev/null)" != "$key" ] || return 0
    say "installing networking-mlnx"
    "$python" -m venv --clear "$mlnx"
    versions=$(versions_file -mlnx)
    mlnx_packages > "$mlnx/packages.txt"
    "$mlnx/bin/python" -m pip --disable-pip-version-check -qq install \
        ${versions:+-c "$versions"} -r "$mlnx/packages.txt"
    echo "$key" > "$mlnx/packages.stamp"
}
