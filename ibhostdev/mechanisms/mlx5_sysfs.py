# SPDX-License-Identifier: Apache-2.0
"""mlx5 by the files of MLNX_OFED, ``<PF>/sriov/<VF>/{node,port,policy}``.

Each write is one firmware command, each read too: what is read is the
vport's true state (OFED drivers/net/ethernet/mellanox/mlx5/core/
sriov_sysfs.c). The store functions check the form of a GUID, not its value.
"""

from collections.abc import Collection, Mapping

from ibhostdev._native.sysfs import Tree
from ibhostdev.errors import (
    IbHostdevError,
    InvalidInput,
    NotVerified,
    from_errno,
)
from ibhostdev.guid import IDLE, Guid
from ibhostdev.inventory import Family, Pf, Policy, VfState

_WORDS = {Policy.DOWN: b"Down", Policy.UP: b"Up", Policy.FOLLOW: b"Follow"}
_POLICIES = {word: policy for policy, word in _WORDS.items()}


class Mlx5Sysfs:
    """Serves a PF whose network device is out of reach.

    A GUID that is set this way reads as 0 by netlink, so the Neutron agent
    does not see it: second choice.
    """

    name = "mlx5_sysfs"

    def __init__(self, sysfs: Tree) -> None:
        self._sysfs = sysfs

    def plugged(self, pf: Pf, guid: Guid, policy: Policy | None) -> VfState:
        return VfState(guid, guid, policy or Policy.FOLLOW)

    def idle(self, pf: Pf) -> VfState:
        return VfState(IDLE, IDLE, Policy.DOWN)

    def obstacle(self, pf: Pf) -> str | None:
        if pf.family is Family.MLX5_OFED:
            return None
        return "the PF has no sriov/<VF>/policy files (MLNX_OFED)"

    def survey(self, pf: Pf, batch: Collection[int]) -> dict[int, VfState]:
        states = {
            index: VfState(node, port)
            for index, (node, port) in self.guids(
                pf, [i for i in range(pf.numvfs) if i not in batch]
            ).items()
        }
        for index, state in self._read(pf, batch).items():
            if isinstance(state, VfState):
                states[index] = state
        return states

    def read_back(
        self, pf: Pf, wanted: Mapping[int, VfState], settle: bool = True
    ) -> dict[int, VfState | IbHostdevError]:
        return self._read(pf, wanted)

    def guids(
        self, pf: Pf, indices: Collection[int]
    ) -> dict[int, tuple[Guid, Guid]]:
        """Node and port GUID of these VFs; who cannot be read is missing."""
        values = self._sysfs.read(
            [f"{pf.path}/sriov/{i}/{a}" for i in indices for a in _GUIDS]
        )
        found = {}
        for index, node, port in zip(
            indices, values[0::2], values[1::2], strict=True
        ):
            if isinstance(node, bytes) and isinstance(port, bytes):
                try:
                    found[index] = _parse(node), _parse(port)
                except InvalidInput:
                    continue
        return found

    def _read(
        self, pf: Pf, indices: Collection[int]
    ) -> dict[int, VfState | IbHostdevError]:
        values = self._sysfs.read(
            [f"{pf.path}/sriov/{i}/{a}" for i in indices for a in _FILES]
        )
        states: dict[int, VfState | IbHostdevError] = {}
        for at, index in enumerate(indices):
            states[index] = self._state(pf, index, values[at * 3 : at * 3 + 3])
        return states

    @staticmethod
    def _state(
        pf: Pf, index: int, values: list[bytes | int]
    ) -> VfState | IbHostdevError:
        for name, value in zip(_FILES, values, strict=True):
            if isinstance(value, int):
                return from_errno(
                    value,
                    pf.vf_address(index),
                    f"{pf.path}/sriov/{index}/{name}",
                    "cannot be read",
                )
        node, port, policy = (v for v in values if isinstance(v, bytes))
        try:
            return VfState(_parse(node), _parse(port), _POLICIES.get(policy))
        except InvalidInput as error:
            return NotVerified(
                error.message,
                pf.vf_address(index),
                f"{pf.path}/sriov/{index}",
                cure="look into the kernel log of mlx5_core",
            )

    def write(
        self, pf: Pf, states: Mapping[int, VfState], whose: object = None, /
    ) -> dict[int, IbHostdevError]:
        failed: dict[int, IbHostdevError] = {}
        for index, state in states.items():
            items = _items(f"{pf.path}/sriov/{index}", state)
            for (path, _), answer in zip(
                items, self._sysfs.write(items, True), strict=True
            ):
                if answer > 0:
                    failed[index] = from_errno(
                        answer, pf.vf_address(index), path
                    )
        return failed


_GUIDS = ("node", "port")
_FILES = ("node", "port", "policy")


def _parse(value: bytes) -> Guid:
    return Guid.parse(value.decode("ascii", "replace"))


def _items(folder: str, state: VfState) -> list[tuple[str, bytes]]:
    """Down comes first, everything else last: a VF is never up with an
    identity that is only half its own."""
    guids = [
        (f"{folder}/{name}", guid.octets.encode())
        for name, guid in (
            ("node", state.node_guid),
            ("port", state.port_guid),
        )
        if guid is not None
    ]
    if state.policy is None:
        return guids
    policy = (f"{folder}/policy", _WORDS[state.policy])
    if state.policy is Policy.DOWN:
        return [policy, *guids]
    return [*guids, policy]
