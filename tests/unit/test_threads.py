# SPDX-License-Identifier: Apache-2.0
"""Python without its global lock, where there is one."""

import subprocess
import sys
import sysconfig

import pytest

_ASK = """
import sys
from ibhostdev._native import arguments, host, results, sysfs, text
print(sys._is_gil_enabled())
"""


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this Python always has its global lock",
)
def test_modules_leave_the_lock_off():
    """One that did not say that it can do without would turn it on, for
    everybody in the process."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done.stderr
