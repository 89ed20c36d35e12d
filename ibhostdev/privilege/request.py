# SPDX-License-Identifier: Apache-2.0
"""A batch on its way across the boundary of privilege, and its answer back.

The whole batch crosses at once, as plain data: never a path, never a
command. The privileged side takes nothing for granted about it.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self

from ibhostdev.batch import (
    BatchFailed,
    BatchResult,
    Link,
    OnError,
    Progress,
    Vif,
)
from ibhostdev.errors import IbHostdevError, InvalidInput, TimedOut
from ibhostdev.guid import Guid
from ibhostdev.host import Host
from ibhostdev.inventory import Policy, VfState
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey
from ibhostdev.privilege.plain import (
    Plain,
    outcome_from_plain,
    outcome_to_plain,
)
from ibhostdev.process import log

MAX_VIFS = 4096
MAX_BYTES = 1 << 20
# Neutron's limit for the name of a physical network; the kernel's for those
# of network and IB devices are smaller.
MAX_NAME = 64
MAX_NETWORKS = 256
MAX_DEVICES = 256

_KEYS = frozenset(
    {
        "action",
        "vifs",
        "policy",
        "link",
        "on_error",
        "rebind",
        "mechanism",
        "dry_run",
        "physical_networks",
        "until",
        "states",
    }
)
# The part of a call's time that the privileged side has for a plug, so that
# who called is still there to be told of its end.
_PART = 0.9
_VIF_KEYS = frozenset({"pci", "guid", "physical_network", "node_guid", "pkey"})
_STATE_KEYS = frozenset({"policy", "pkey"})


class Request(NamedTuple):
    """A call of Host.plug(), unplug() or adjust(), with their parameters.

    ``physical_networks`` is the mapping of who asks, where the privileged
    side has none of its own: it may have VIFs refused, and lets none through
    that would not be otherwise. No VIFs at all is a fine request: it makes the
    privileged side ready, or tells what would make every plug fail.

    A plug is to be done ``until`` then, by time.monotonic(), or not at all:
    later nobody waits for it. An unplug is done however late it is; what is
    asked for after it comes to the locks after it, too. ``states`` are those
    to adjust to: of them policies and first P_Keys cross.
    """

    action: Literal["plug", "unplug", "adjust"]
    vifs: tuple[Vif, ...]
    policy: Policy | None = None
    on_error: OnError = OnError.ROLLBACK
    rebind: bool = True
    mechanism: str | None = None
    dry_run: bool = False
    physical_networks: Mapping[str, tuple[str, ...]] | None = None
    link: Link = Link.RAISED
    until: float | None = None
    states: tuple[VfState, ...] = ()

    def within(self, seconds: float) -> Self:
        """The request of who waits so long from now on."""
        return self._replace(until=time.monotonic() + seconds * _PART)

    def to_plain(self) -> Plain:
        networks = self.physical_networks
        return {
            "action": self.action,
            "vifs": [_vif_to_plain(vif) for vif in self.vifs],
            "policy": None if self.policy is None else str(self.policy),
            "link": str(self.link),
            "on_error": str(self.on_error),
            "rebind": self.rebind,
            "mechanism": self.mechanism,
            "dry_run": self.dry_run,
            "physical_networks": None
            if networks is None
            else {name: list(devices) for name, devices in networks.items()},
            "until": self.until,
            "states": [
                {
                    "policy": None if one.policy is None else str(one.policy),
                    "pkey": None if one.pkeys is None else one.pkeys[0],
                }
                for one in self.states
            ],
        }

    @classmethod
    def from_plain(cls, plain: object) -> Self:
        """What is not exactly of the form is refused, with the place.

        :raises InvalidInput: for the first thing that is wrong
        """
        given = _mapping(plain, "request", _KEYS)
        action = given.get("action")
        if action not in ("plug", "unplug", "adjust"):
            raise _wrong("action", "is none of plug, unplug and adjust")
        vifs = _list(given.get("vifs"), "vifs", MAX_VIFS)
        states = _list(given.get("states", ()), "states", MAX_VIFS)
        if len(states) != (len(vifs) if action == "adjust" else 0):
            raise _wrong("states", "are not as many as they should be")
        return cls(
            action,
            tuple([_vif(vif, number) for number, vif in enumerate(vifs)]),
            _policy(given.get("policy")),
            _on_error(given.get("on_error", "rollback")),
            _switch(given.get("rebind", True), "rebind"),
            _name(given.get("mechanism"), "mechanism"),
            _switch(given.get("dry_run", False), "dry_run"),
            _networks(given.get("physical_networks")),
            _link(given.get("link", "raised")),
            _until(given.get("until")),
            tuple([_state(one, n) for n, one in enumerate(states)]),
        )

    def to_json(self) -> bytes:
        """For a pipe."""
        import json

        return json.dumps(self.to_plain()).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """From a pipe; read no more than MAX_BYTES + 1 from it.

        :raises InvalidInput: if it is too long, no JSON or no request
        """
        import json

        if len(data) > MAX_BYTES:
            raise _wrong("request", f"has more than {MAX_BYTES} bytes", _FEWER)
        try:
            plain = json.loads(data, object_pairs_hook=_no_twins)
        except (ValueError, RecursionError):
            raise _wrong("request", "is no JSON") from None
        return cls.from_plain(plain)

    def run(self, host: Host, progress: Progress | None = None) -> BatchResult:
        """Do it. Raises what Host.plug() and Host.unplug() raise."""
        if not self.vifs:
            return BatchResult((), tuple(host.ready(self.mechanism)))
        if self.action == "plug":
            # What firmware that hangs is asked holds up those behind it.
            if self.until is not None and time.monotonic() > self.until:
                raise TimedOut(
                    "the plug came too late; nothing was written",
                    cure="see in the kernel log whether firmware answers, "
                    "then repeat it",
                )
            return host.plug(
                self.vifs,
                policy=self.policy,
                link=self.link,
                on_error=self.on_error,
                mechanism=self.mechanism,
                dry_run=self.dry_run,
                progress=progress,
                until=self.until,
            )
        if self.action == "adjust":
            return host.adjust(self.vifs, self.states)
        return host.unplug(
            self.vifs,
            rebind=self.rebind,
            on_error=self.on_error,
            mechanism=self.mechanism,
            dry_run=self.dry_run,
            progress=progress,
        )


def run(plain: object, connect: Callable[[Request], Host]) -> Plain:
    """The privileged side: a request as plain data in, its answer out.

    ``connect`` gives the host; it may look at the request's mapping and
    should look at nothing else. Never raises: what went wrong is in the
    answer, with all that it has to tell.
    """
    outcome: BatchResult | IbHostdevError
    try:
        request = Request.from_plain(plain)
        outcome = request.run(connect(request))
    except IbHostdevError as error:
        outcome = error
    except Exception as error:
        log.logger(__name__).exception("Unexpected failure of a batch")
        outcome = IbHostdevError(
            f"unexpected {type(error).__name__}: {error}",
            cure="this is a fault of ibhostdev: please report it with the log",
        )
    return outcome_to_plain(outcome)


def read_answer(plain: object) -> BatchResult:
    """The other end of run().

    :raises BatchFailed: with the result of each VF, as Host would
    :raises IbHostdevError: whichever the batch ended with
    """
    try:
        if not isinstance(plain, Mapping):
            raise TypeError("no mapping")
        outcome = outcome_from_plain(plain)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise IbHostdevError(
            f"the privileged side gave a malformed answer: {error}",
            cure=_VERSIONS,
        ) from error
    if isinstance(outcome, IbHostdevError):
        raise outcome
    return outcome


# -- checks ---------------------------------------------------------------


# Of a request; or the number of a VIF and what of it, which is only spelled
# if it is to be told.
Where = str | tuple[int, str]


def _state(value: object, number: int) -> VfState:
    where = f"states[{number}]"
    given = _mapping(value, where, _STATE_KEYS)
    pkey = _name(given.get("pkey"), where)
    if pkey not in (None, "none") and not re.fullmatch("[0-9]{1,3}", pkey):
        raise _wrong(where, "has no place in a table of P_Keys")
    return VfState(
        policy=_policy(given.get("policy")),
        pkeys=None if pkey is None else (pkey, "none"),
    )


def _spelled(where: Where) -> str:
    return where if isinstance(where, str) else f"vifs[{where[0]}]{where[1]}"


_VERSIONS = "install the same version of ibhostdev on both sides"
_FEWER = "ask for fewer at a time"


def _wrong(where: Where, what: str, cure: str = _VERSIONS) -> InvalidInput:
    return InvalidInput(what, attribute=_spelled(where), cure=cure)


def culprit(error: IbHostdevError) -> int | None:
    """The number of the VIF for which a request was refused."""
    for place in (error.device, error.attribute):
        if found := re.match(r"vifs\[([0-9]+)\]", place or ""):
            return int(found[1])
    return None


def _mapping(
    value: object, where: Where, keys: frozenset[str]
) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise _wrong(where, "is no mapping")
    if not value.keys() <= keys:
        raise _wrong(where, "has a key that is not known")
    return value


def _list(value: object, where: str, most: int) -> list[Any] | tuple[Any, ...]:
    if type(value) is not list and type(value) is not tuple:
        raise _wrong(where, "is no list")
    if len(value) > most:
        raise _wrong(where, f"has more than {most} entries", _FEWER)
    return value


def _name(value: object, where: Where) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        raise _wrong(where, "is no text")
    if not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise _wrong(
            where,
            f"is no name of 1 to {MAX_NAME} characters",
            "correct the name",
        )
    return value


def _vif_to_plain(vif: Vif) -> Plain:
    plain: Plain = {
        "pci": None if vif.pci is None else str(vif.pci),
        "guid": str(vif.guid),
        "physical_network": vif.physical_network,
    }
    if vif.node_guid is not None:
        plain["node_guid"] = str(vif.node_guid)
    if vif.pkey is not None:
        plain["pkey"] = str(vif.pkey)
    return plain


def _vif(value: object, number: int) -> Vif:
    given = _mapping(value, (number, ""), _VIF_KEYS)
    pci = _name(given.get("pci"), (number, ".pci"))
    guid = _name(given.get("guid"), (number, ".guid"))
    node = given.get("node_guid")
    if node is not None:
        node = _name(node, (number, ".node_guid"))
    pkey = _name(given.get("pkey"), (number, ".pkey"))
    if guid is None:
        raise _wrong((number, ".guid"), "is missing")
    try:
        return Vif(
            None if pci is None else PciAddress.parse(pci),
            Guid.parse(guid),
            _name(
                given.get("physical_network"), (number, ".physical_network")
            ),
            None if node is None else Guid.parse(node),
            None if pkey is None else PKey.parse(pkey),
        )
    except InvalidInput as error:
        raise InvalidInput(
            error.message,
            _spelled((number, "")),
            error.attribute,
            cure=error.cure,
        ) from None


def _switch(value: object, where: str) -> bool:
    if type(value) is not bool:
        raise _wrong(where, "is no boolean")
    return value


def _policy(value: object) -> Policy | None:
    if value is None:
        return None
    if type(value) is not str or value not in list(Policy):
        raise _wrong("policy", f"is none of {', '.join(Policy)}")
    return Policy(value)


def _on_error(value: object) -> OnError:
    if type(value) is not str or value not in list(OnError):
        raise _wrong("on_error", f"is none of {', '.join(OnError)}")
    return OnError(value)


def _link(value: object) -> Link:
    if type(value) is not str or value not in list(Link):
        raise _wrong("link", f"is none of {', '.join(Link)}")
    return Link(value)


def _until(value: object) -> float | None:
    if value is not None and type(value) is not float:
        raise _wrong("until", "is no time")
    return value


def _networks(value: object) -> Mapping[str, tuple[str, ...]] | None:
    if value is None:
        return None
    where = "physical_networks"
    if type(value) is not dict:
        raise _wrong(where, "is no mapping")
    if len(value) > MAX_NETWORKS:
        raise _wrong(where, f"has more than {MAX_NETWORKS} entries", _FEWER)
    networks = {}
    for name, devices in value.items():
        found = [
            _name(device, where)
            for device in _list(devices, where, MAX_DEVICES)
        ]
        name = _name(name, where)
        if name is None or None in found:
            raise _wrong(where, "has an empty name")
        networks[name] = tuple(device for device in found if device)
    return networks


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    if len(given) != len(pairs):
        raise ValueError("a key is there twice")
    return given


__all__ = [
    "MAX_BYTES",
    "MAX_VIFS",
    "BatchFailed",
    "Request",
    "culprit",
    "read_answer",
    "run",
]
