# SPDX-License-Identifier: Apache-2.0
"""Imported as nova.virt.ibhostdev; see ibhostdev.nova."""

from ibhostdev.nova import driver

LibvirtDriver = driver.LibvirtDriver
