# SPDX-License-Identifier: Apache-2.0
"""What the package nova.virt is to have besides its own modules."""
