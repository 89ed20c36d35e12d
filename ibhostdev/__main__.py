# SPDX-License-Identifier: Apache-2.0
"""``python -m ibhostdev`` is the ``ibhostdev`` command."""

import sys

from ibhostdev.cli import main

sys.exit(main())
