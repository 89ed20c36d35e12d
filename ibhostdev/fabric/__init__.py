# SPDX-License-Identifier: Apache-2.0
"""The host as its fabric and those who watch it are to see it: partitions,
hooks, metrics."""
