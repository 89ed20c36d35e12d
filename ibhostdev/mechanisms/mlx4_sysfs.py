# SPDX-License-Identifier: Apache-2.0
"""mlx4 (ConnectX-3) by ``/sys/class/infiniband/<device>/iov``.

A GUID is a request here: ``ports/<p>/admin_guids/<i>`` takes anything and
always reports success, a work item asks the subnet manager, and only
``ports/<p>/gids/<i>`` shows that it agreed (drivers/infiniband/hw/mlx4/
sysfs.c and alias_GUID.c). VFs have neither node GUIDs nor policies.
"""

import time
from collections.abc import Collection, Mapping

from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import (
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    NotVerified,
    TimedOut,
    from_errno,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import Family, Pf, Policy, VfState

# 15 bits; the top bit tells full from limited members.
_DEFAULT_PKEY = 0x7FFF


class Mlx4Sysfs:
    """The only way on mlx4.

    ``patience`` bounds the wait for the subnet manager, in seconds. Its
    answer to one request has a time limit of 1 s in the driver.
    """

    name = "mlx4_sysfs"

    def __init__(self, sysfs: Tree, patience: float = 10.0) -> None:
        self._sysfs = sysfs
        self._patience = patience

    def plugged(self, pf: Pf, guid: Guid, policy: Policy | None) -> VfState:
        if policy not in (None, Policy.FOLLOW):
            raise InvalidInput(
                f"mlx4 VFs have no policy to set to {policy}",
                attribute="policy",
                cure="leave the policy out: the port comes up with its GUID",
            )
        return VfState(port_guid=guid)

    def idle(self, pf: Pf) -> VfState:
        return VfState(port_guid=IDLE)

    def obstacle(self, pf: Pf) -> str | None:
        if pf.family is not Family.MLX4:
            return "the PF's driver is not mlx4_core"
        (entry,) = self._sysfs.read([f"{_port(pf)}/admin_guids/0"])
        if isinstance(entry, int):
            return "the driver shows no iov folder: it has no VFs enabled"
        return None

    def survey(self, pf: Pf, batch: Collection[int]) -> dict[int, VfState]:
        entries = self._entries(pf, range(pf.numvfs))
        guids = self._guids(pf, entries, "admin_guids")
        agreed = self._guids(
            pf, {i: entries[i] for i in batch if i in entries}, "gids"
        )
        pkeys = self._pkeys(pf, entries)
        return {
            index: VfState(
                port_guid=guid,
                pkeys=pkeys.get(index),
                # What was only asked for is asked for again: the driver
                # gives a request up when the VF's own driver goes.
                pending=index in agreed and agreed[index] != guid,
            )
            for index, guid in guids.items()
        }

    def write(
        self, pf: Pf, states: Mapping[int, VfState], whose: object = None, /
    ) -> dict[int, IbHostdevError]:
        entries = self._entries(pf, states)
        default = self._default_pkey(pf)
        failed: dict[int, IbHostdevError] = {}
        for index, state in states.items():
            entry = entries.get(index)
            if entry is None:
                failed[index] = CommandFailed(
                    "the driver does not say which GUID entry is this VF's",
                    pf.vf_address(index),
                    f"{_vf(pf, index)}/gid_idx/0",
                    cure="look into the kernel log of mlx4_core",
                )
                continue
            items = self._items(pf, index, entry, state, default)
            for (path, _), answer in zip(
                items, self._sysfs.write(items, True), strict=True
            ):
                if answer > 0:
                    failed[index] = from_errno(
                        answer, pf.vf_address(index), path
                    )
        return failed

    def _items(
        self,
        pf: Pf,
        index: int,
        entry: int,
        state: VfState,
        default: int | None,
    ) -> list[tuple[str, bytes]]:
        """No partition while the GUID changes, and the default partition in
        the second entry, as the Neutron agent expects it: it puts the
        network's own into the first. The GUID last: one that is there says
        that all is."""
        guid = state.port_guid
        if guid is None:
            return []
        folder = f"{_vf(pf, index)}/pkey_idx"
        first, second = state.pkeys or ("none", None)
        if second is None and default is not None and not guid.is_idle:
            second = str(default)
        items = [(f"{folder}/0", b"none")]
        if second is not None:
            items.append((f"{folder}/1", second.encode()))
        items.append(
            (f"{_port(pf)}/admin_guids/{entry}", f"{guid:x}".encode())
        )
        if first != "none":
            items.append((f"{folder}/0", first.encode()))
        return items

    def read_back(
        self, pf: Pf, wanted: Mapping[int, VfState], settle: bool = True
    ) -> dict[int, VfState | IbHostdevError]:
        entries = self._entries(pf, wanted)
        states: dict[int, VfState | IbHostdevError] = {
            index: VfState(port_guid=guid)
            for index, guid in self._guids(pf, entries, "admin_guids").items()
        }
        # An idle VF needs no consent: nobody is to use it, and the subnet
        # manager may be away.
        waiting = {
            index: entries[index]
            for index, state in wanted.items()
            if settle
            and index in entries
            and state.port_guid is not None
            and not state.port_guid.is_idle
            and states.get(index) == VfState(port_guid=state.port_guid)
        }
        deadline = time.monotonic() + self._patience
        pause = 0.002
        while waiting:
            for index, guid in self._guids(pf, waiting, "gids").items():
                if guid == wanted[index].port_guid:
                    del waiting[index]
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
        for index, entry in waiting.items():
            states[index] = TimedOut(
                f"the subnet manager did not take the GUID within "
                f"{self._patience:g} s",
                pf.vf_address(index),
                f"{_port(pf)}/gids/{entry}",
                cure="check that the port is active and the subnet manager "
                "supports alias GUIDs",
            )
        return states

    def _entries(self, pf: Pf, indices: Collection[int]) -> dict[int, int]:
        """The VFs' entries in admin_guids. 0 is the PF's own, which ignores
        what is written, so it cannot be a VF's."""
        values = self._sysfs.read([f"{_vf(pf, i)}/gid_idx/0" for i in indices])
        return {
            index: int(value)
            for index, value in zip(indices, values, strict=True)
            if isinstance(value, bytes) and value.isdigit() and int(value) > 0
        }

    def _guids(
        self, pf: Pf, entries: Mapping[int, int], kind: str
    ) -> dict[int, Guid]:
        """GUIDs by VF: admin_guids are hex without padding, gids are 128
        bits of which the GUID is the second half."""
        values = self._sysfs.read(
            [f"{_port(pf)}/{kind}/{entry}" for entry in entries.values()]
        )
        guids = {}
        for index, value in zip(entries, values, strict=True):
            if not isinstance(value, bytes):
                continue
            try:
                digits = value.replace(b":", b"")[-16:]
                guids[index] = Guid(digits.decode("ascii"), 16)
            except ValueError as error:
                raise NotVerified(
                    f"{value!r} is no GUID",
                    pf.vf_address(index),
                    f"{_port(pf)}/{kind}/{entries[index]}",
                    cure="look into the kernel log of mlx4_core",
                ) from error
        return guids

    def _pkeys(
        self, pf: Pf, indices: Collection[int]
    ) -> dict[int, tuple[str, str]]:
        values = self._sysfs.read(
            [f"{_vf(pf, i)}/pkey_idx/{n}" for i in indices for n in (0, 1)]
        )
        return {
            index: (first.decode(), second.decode())
            for index, first, second in zip(
                indices, values[0::2], values[1::2], strict=True
            )
            if isinstance(first, bytes) and isinstance(second, bytes)
        }

    def _default_pkey(self, pf: Pf) -> int | None:
        """Index of the default partition in the port's P_Key table."""
        (listed,) = self._sysfs.listdir([f"{_port(pf)}/pkeys"])
        if isinstance(listed, int):
            return None  # the writes that follow will tell
        names = [name for name in listed if name.isdecimal()]
        values = self._sysfs.read([f"{_port(pf)}/pkeys/{n}" for n in names])
        for name, value in sorted(
            zip(names, values, strict=True), key=lambda pair: int(pair[0])
        ):
            if isinstance(value, bytes):
                try:
                    if int(value, 16) & _DEFAULT_PKEY == _DEFAULT_PKEY:
                        return int(name)
                except ValueError:
                    continue
        return None


def _port(pf: Pf) -> str:
    return f"{pf.path}/infiniband/{pf.ib_device}/iov/ports/{pf.port}"


def _vf(pf: Pf, index: int) -> str:
    """The driver names the folders by itself (sysfs.c, register_one_pkey_
    tree): the PF's bus, and slave number in place of device and function."""
    slave = index + 1
    name = f"{pf.pci.rpartition(':')[0]}:{slave // 8:02d}.{slave % 8}"
    return f"{pf.path}/infiniband/{pf.ib_device}/iov/{name}/ports/{pf.port}"
