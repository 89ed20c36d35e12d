# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# All that is found without running anything.  Read by ./dev.

part() {
    printf '%s\n' "--- $*"
    "$@" || failed="$failed, $1"
}

# Everything that can carry the line does; no list of names to keep.
licence_lines() {
    missing=$(git ls-files -co --exclude-standard -- . ':!*.md' \
        ':!*.json' ':!*.svg' ':!*.png' ':!*/py.typed' ':!*LICENSE' \
        ':!releasenotes/notes' ':!tests/cli/golden' | while read -r name; do
            [ ! -s "$name" ] || head -n 3 "$name" \
                | grep -q 'SPDX-License-Identifier: ' || echo "$name"
        done)
    [ -z "$missing" ] || {
        printf 'no SPDX-License-Identifier in the first 3 lines of\n%s\n' \
            "$missing"
        return 1
    }
}

# Cython gives each module three names of its own, and a class no signature
# for its constructor.
stubs() {
    # shellcheck disable=SC2046
    python -m mypy.stubtest --mypy-config-file pyproject.toml \
        --ignore-disjoint-bases --allowlist /dev/stdin \
        --ignore-unused-allowlist $(find ibhostdev/_native -name '*.pyi' \
            | sort | sed 's/\.pyi$//; s,/,.,g') <<'END'
ibhostdev\._native\.\w+\.__(pyx_capi|reduce_cython|setstate_cython|test)__
ibhostdev\._native\.\w+\.\w+\.__init__
END
}

# What differs, and the cure.
sample() {
    differ=0
    sample_of etc/ibhostdev.conf.sample --namespace ibhostdev || differ=1
    sample_of etc/ibhostdev-agent.conf.sample --namespace ibhostdev \
        --namespace ibhostdev.neutron || differ=1
    return $differ
}

sample_of() {
    file=$1
    shift
    {
        echo "# SPDX-License-Identifier: Apache-2.0"
        oslo-config-generator "$@" --wrap-width 79
    } | diff -u "$file" - || {
        echo "$file is not what the options are: pipe this into patch -p0"
        return 1
    }
}

# gcc takes what is stored behind a pointer for lost (-malloc-leak); what
# really is, the tests find with AddressSanitizer.
analyzer() {
    for source in ibhostdev/_native/engine/*.c ibhostdev/ebrctl/*.c; do
        gcc -std=gnu11 -O2 -Wall -Wextra -Wconversion -Wno-sign-conversion \
            -Iinclude -fanalyzer -Wno-analyzer-malloc-leak -Werror \
            -c "$source" -o /dev/null || return 1
    done
}

lint() {
    command -v cppcheck >/dev/null || need cppcheck
    failed=
    part ruff check
    part ruff format --check
    part mypy
    part stubs
    part cython-lint ibhostdev
    part analyzer
    part cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr \
        --enable=warning,performance,portability \
        --suppress=missingIncludeSystem -Iinclude \
        ibhostdev/_native/engine ibhostdev/ebrctl
    part licence_lines
    part reno -q lint
    part sample
    [ -z "$failed" ] || die "lint failed: ${failed#, }"
    say "lint passed"
}
