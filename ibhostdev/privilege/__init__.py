# SPDX-License-Identifier: Apache-2.0
"""How a batch gets to run with the rights that it needs."""
