# SPDX-License-Identifier: Apache-2.0
"""What ./dev release does."""
