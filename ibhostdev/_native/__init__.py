# SPDX-License-Identifier: Apache-2.0
"""The compiled floor: batches of system calls on plain numbers and bytes.

Nothing here knows what a PF, a VF's policy or a tenant is.
"""
