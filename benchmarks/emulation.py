# SPDX-License-Identifier: Apache-2.0
"""How much slower than its host the virtual machine is.

A sleep takes as long in it as anywhere, and software many times longer. With
delays that are longer by the same factor a run has the proportions that it
would have on a real host.
"""

import subprocess

from benchmarks.contenders import BUILD


def loop() -> float:
    """Seconds of the processor's time that a loop in C takes here."""
    told = subprocess.run(
        [BUILD / "emulation"], check=True, capture_output=True, text=True
    ).stdout
    return int(told) / 1e9
