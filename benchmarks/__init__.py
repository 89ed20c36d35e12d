# SPDX-License-Identifier: Apache-2.0
"""What a plug costs, beside everything else that does it: see README.md."""
