# SPDX-License-Identifier: Apache-2.0
"""Nova's own unit tests, with our classes in the place of Nova's.

No test that passes with Nova's classes may fail with ours. Run it without
arguments for that, with ``nova`` or ``ibhostdev`` and names of tests
for one of them.
"""

import json
import subprocess
import sys
import unittest
from collections.abc import Callable
from typing import Any

TESTS = (
    "nova.tests.unit.virt.libvirt.test_vif",
    "nova.tests.unit.virt.libvirt.test_driver",
)


def substitute() -> None:
    # First of all: they choose threads or eventlet.
    import nova.monkey_patch
    import nova.tests.unit
    import nova.virt.libvirt
    from nova.virt.libvirt import driver, vif

    import ibhostdev.nova.driver
    import ibhostdev.nova.vif

    for module, name, ours in (
        (vif, "LibvirtGenericVIFDriver", ibhostdev.nova.vif),
        (driver, "LibvirtDriver", ibhostdev.nova.driver),
    ):
        mine, base = getattr(ours, name), getattr(module, name)
        # fixtures and mock look for these in the class itself.
        for key, member in vars(base).items():
            if isinstance(member, staticmethod) and key not in vars(mine):
                setattr(mine, key, member)
        setattr(module, name, mine)
        module.super = sparing(mine, base)
    nova.virt.libvirt.LibvirtDriver = driver.LibvirtDriver


def sparing(mine: type, base: type) -> Callable[..., Any]:
    """A super() for the module of ``base``, whose methods may name their
    class in it: by that name they find ``mine`` now."""

    def spared(*args: Any) -> Any:
        if args:
            cls, thing = args
        else:
            frame = sys._getframe(1)
            cls = frame.f_locals["__class__"]
            thing = frame.f_locals[frame.f_code.co_varnames[0]]
        return super(base if cls is mine else cls, thing)

    return spared


class Result(unittest.TextTestResult):
    passed: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passed = []

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.append(test.id())


def run(whose: str, tests: list[str]) -> int:
    """Run them; the names of those that pass are the last line."""
    if whose == "ibhostdev":
        substitute()
    suite = unittest.defaultTestLoader.loadTestsFromNames(tests)
    runner = unittest.TextTestRunner(
        resultclass=Result, verbosity=0, buffer=True
    )
    result = runner.run(suite)
    assert isinstance(result, Result)
    print(json.dumps(sorted(result.passed)))
    return 0 if result.wasSuccessful() else 1


def told(whose: str) -> tuple[set[str], bool]:
    """Those that pass, and whether all did; in full only if there is
    something to read."""
    done = subprocess.run(
        [sys.executable, __file__, whose, *TESTS],
        capture_output=True,
        text=True,
        errors="replace",
    )
    shown = done.stderr.splitlines()
    if done.returncode == 0:
        shown = shown[-3:]
    print(f"-- with the classes of {whose}:", *shown, sep="\n")
    lines = done.stdout.splitlines() or ["[]"]
    passed = set(json.loads(lines[-1]))
    print(f"{len(passed)} passed")
    return passed, done.returncode == 0


def compare() -> int:
    """Nova's classes are tried only where ours fail, to tell whether that is
    their doing."""
    ours, all_passed = told("ibhostdev")
    if all_passed and ours:
        return 0
    novas, _ = told("nova")
    lost = sorted(novas - ours)
    print(f"{len(lost)} pass with the classes of nova alone", *lost[:20])
    return 1 if lost or not novas else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
    sys.exit(compare())
