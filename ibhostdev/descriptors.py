# SPDX-License-Identifier: Apache-2.0
"""The standard descriptors, which are whoever's who started the process."""

import os
import sys


def open_closed() -> None:
    """Have those that are closed lead nowhere; else what is opened first
    would be taken for one of them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
