# SPDX-License-Identifier: Apache-2.0
"""``python -m ibhostdev.ebrctl`` prints the folder to put first in PATH."""

from ibhostdev.ebrctl import main

main()
