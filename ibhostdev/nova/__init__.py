# SPDX-License-Identifier: Apache-2.0
"""Nova's face: its libvirt driver, with InfiniBand ports plugged by us.

``compute_driver = ibhostdev.LibvirtDriver`` makes Nova import
``nova.virt.ibhostdev``. That is the module in our folder ``virt``, which
os_vif_plugin puts on the path of the package nova.virt: nova-compute
initialises the plugins of os-vif before it loads its driver. Nothing is
written into Nova's folders, and nothing of it is replaced.
"""
