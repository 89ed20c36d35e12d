#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a host's own script does for its VFs at boot, and the vendor's after a
# reload of its driver, in our words: both have this shape, and read nothing
# back. The vendor's has no STATE ("-"), and then waits for each VF, which is
# not done here but counted.
#
#     usual.sh VFS STATE PF NETDEV < GUIDS      one for each VF, in their order
set -eu
vfs=$1 state=$2 pf=$3 netdev=$4
pci=/sys/bus/pci
echo 0 > $pci/devices/$pf/sriov_numvfs
echo "$vfs" > $pci/devices/$pf/sriov_numvfs
index=0
while read -r guid; do
	vf=$(basename "$(readlink $pci/devices/$pf/virtfn$index)")
	ip link set dev "$netdev" vf $index node_guid "$guid"
	ip link set dev "$netdev" vf $index port_guid "$guid"
	if [ "$state" != - ]; then
		ip link set dev "$netdev" vf $index state "$state"
	fi
	echo "$vf" > $pci/drivers/mlx5_core/unbind
	echo "$vf" > $pci/drivers/mlx5_core/bind
	index=$((index + 1))
done
