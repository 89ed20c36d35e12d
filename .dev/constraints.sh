# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# The versions that CI installs.  Read by ./dev.

# pins: of requirements on standard input, what pip would install now
pins() {
    "$venv/bin/python" -m pip --disable-pip-version-check install -q \
        --dry-run --ignore-installed --report "$venv/pins.json" \
        -r /dev/stdin >&2 || return
    echo "# SPDX-License-Identifier: Apache-2.0"
    echo "# What CI installs.  Made by ./dev constraints."
    "$venv/bin/python" -c '
import json, sys
with open(sys.argv[1]) as file:
    found = [one["metadata"] for one in json.load(file)["install"]]
print(*sorted("%(name)s==%(version)s" % one for one in found), sep="\n")
' "$venv/pins.json"
}

# What CI installs is what was the newest when this was last run.
constraints() {
    constraints=
    setup test  # with what of the system's some are compiled by
    for name in '' -nova-34 -neutron-29 -mlnx; do
        say "looking for the newest: .ci/constraints$name.txt"
        case $name in
            '')
                requirements build itself simulate test libvirt lint bench \
                    docs release ansible
                echo legacy-cgi  # WebOb needs it from 3.13 on
                ;;
            -mlnx) mlnx_packages ;;
            -neutron-*)
                neutron_packages "${name##*-}"
                requirements itself simulate neutron
                ;;
            *)
                nova_packages "${name##*-}"
                requirements itself simulate nova
                ;;
        esac | pins > "$venv/pins.txt" || die "failed: $name"
        mv "$venv/pins.txt" ".ci/constraints$name.txt"
    done
}
