# SPDX-License-Identifier: Apache-2.0
"""What the engine says, as Python's values.

The results of a batch stay in one block of bytes, which may cross to another
process; objects are made of those that somebody looks at.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, strlen

from ibhostdev._native.api cimport (
    IBH_HAVE_NODE,
    IBH_HAVE_PKEY,
    IBH_HAVE_PKEYS,
    IBH_HAVE_POLICY,
    IBH_HAVE_PORT,
    IBH_MECHANISMS,
    IBH_OTHER,
    IBH_PCI_TEXT,
    IBH_PKEY,
    ibh_error,
    ibh_family,
    ibh_format_pci,
    ibh_kind,
    ibh_parse_pci,
    ibh_pci,
    ibh_pf,
    ibh_policy,
    ibh_result,
    ibh_state,
    ibh_vf,
)

from ibhostdev import errors as _errors
from ibhostdev.batch import VfResult
from ibhostdev.guid import Guid
from ibhostdev.inventory import (
    MECHANISMS as _MECHANISMS,
    Family,
    Netdev,
    Pf,
    Policy,
    Port,
    Vf,
    VfState,
)
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import PKey

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size,
                             const char *errors)

# As enum ibh_family, enum ibh_policy and enum ibh_kind count.
cdef tuple _families = (Family.MLX5, Family.MLX5_OFED, Family.MLX4)
cdef tuple _policies = (Policy.FOLLOW, Policy.UP, Policy.DOWN)
cdef tuple _kinds = (
    _errors.CommandFailed,
    _errors.InvalidInput,
    _errors.DeviceNotFound,
    _errors.WrongPhysicalNetwork,
    _errors.GuidConflict,
    _errors.DeviceInUse,
    _errors.NoMechanism,
    _errors.AccessDenied,
    _errors.NotVerified,
    _errors.TimedOut,
    _errors.RebindFailed,
    _errors.RolledBack,
    _errors.RollbackFailed,
    _errors.NotRunning,
    _errors.IbHostdevError,
)
cdef object _new = tuple.__new__  # of a NamedTuple, without its __new__


cdef packed struct State:
    uint64_t node
    uint64_t port
    uint8_t have
    uint8_t policy
    uint8_t pending
    uint16_t pkey
    char pkeys[2][8]


cdef packed struct Record:
    uint32_t domain
    uint16_t rid
    uint8_t has  # bits below
    uint8_t mechanism
    uint32_t error  # its place among the errors, from 1; 0 is none
    State wanted
    State before
    State after


cdef enum:
    HAS_PCI = 1
    HAS_BEFORE = 2
    HAS_AFTER = 4
    CHANGED = 8
    VERIFIED = 16


cdef class Results:
    """A VfResult for each VIF, in order. ``records`` is the block that they
    are made of, ``errors`` those of the VFs that failed, in order."""

    def __init__(self, bytes records not None, errors):
        """From another process.

        :raises ValueError: for records that are none
        """
        self.records = records
        self.errors = list(errors)
        if len(records) % sizeof(Record):
            raise ValueError("records of another size")
        cdef const Record *record
        cdef size_t i, failed = 0
        for i in range(len(records) // sizeof(Record)):
            record = _record(self.records, i)
            failed += record.error != 0
            if (
                record.error not in (0, failed)
                or record.mechanism > IBH_MECHANISMS
                or not (_is_state(&record.wanted) and _is_state(&record.before)
                        and _is_state(&record.after))
            ):
                raise ValueError("a record that is none")
        if failed != <size_t>len(self.errors):
            raise ValueError("as many errors as were not told of")

    def __len__(self):
        return len(self.records) // sizeof(Record)

    def __iter__(self):
        cdef size_t i
        for i in range(len(self.records) // sizeof(Record)):
            yield self[i]

    def __getitem__(self, Py_ssize_t i):
        if not 0 <= i < len(self.records) // <Py_ssize_t>sizeof(Record):
            raise IndexError(i)
        cdef const Record *record = _record(self.records, i)
        cdef ibh_pci pci
        pci.domain = record.domain
        pci.rid = record.rid
        return _new(VfResult, (
            address_of(pci) if record.has & HAS_PCI else None,
            _state(&record.wanted),
            _state(&record.before) if record.has & HAS_BEFORE else None,
            _state(&record.after) if record.has & HAS_AFTER else None,
            _MECHANISMS[record.mechanism]
            if record.mechanism < IBH_MECHANISMS else None,
            bool(record.has & CHANGED),
            bool(record.has & VERIFIED),
            self.errors[record.error - 1] if record.error else None,
        ))


def packed(results):
    """Results, whoever made them, as one block."""
    if isinstance(results, Results):
        return results
    every = tuple(results)
    cdef Results made = Results.__new__(Results)
    cdef Record *record
    cdef ibh_pci pci
    cdef bytes address
    cdef size_t i
    made.errors = []
    made.records = bytes(len(every) * sizeof(Record))
    for i, one in enumerate(every):
        record = _record(made.records, i)
        if one.pci is not None:
            address = one.pci.encode()
            if ibh_parse_pci(address, len(address), &pci):
                raise ValueError(one.pci)
            record.domain = pci.domain
            record.rid = pci.rid
        record.has = (
            HAS_PCI * (one.pci is not None)
            | HAS_BEFORE * (one.before is not None)
            | HAS_AFTER * (one.after is not None)
            | CHANGED * bool(one.changed) | VERIFIED * bool(one.verified)
        )
        record.mechanism = IBH_MECHANISMS
        if one.mechanism is not None:
            record.mechanism = _MECHANISMS.index(one.mechanism)
        _pack_state(&record.wanted, one.wanted)
        _pack_state(&record.before, one.before)
        _pack_state(&record.after, one.after)
        if one.error is not None:
            made.errors.append(one.error)
            record.error = len(made.errors)
    return made


cdef int _pack_state(State *packed, state) except -1:
    cdef bytes pkey
    cdef size_t i
    if state is None:
        return 0
    if state.node_guid is not None:
        packed.have |= IBH_HAVE_NODE
        packed.node = state.node_guid
    if state.port_guid is not None:
        packed.have |= IBH_HAVE_PORT
        packed.port = state.port_guid
    if state.policy is not None:
        packed.have |= IBH_HAVE_POLICY
        packed.policy = policy_of(state.policy)
    if state.pkeys is not None:
        packed.have |= IBH_HAVE_PKEYS
        for i in range(2):
            pkey = state.pkeys[i].encode()[:IBH_PKEY - 1]
            memcpy(packed.pkeys[i], <const char *>pkey, len(pkey))
    if state.pkey is not None:
        packed.have |= IBH_HAVE_PKEY
        packed.pkey = state.pkey.values[0]
    packed.pending = state.pending
    return 0


cdef Record *_record(bytes records, size_t i) noexcept:
    return <Record *>PyBytes_AsString(records) + i


cdef Results results_of(const ibh_result *given, size_t count):
    cdef Results results = Results.__new__(Results)
    cdef const ibh_result *result
    cdef Record *record
    cdef size_t i
    results.errors = []
    results.records = PyBytes_FromStringAndSize(
        NULL, count * sizeof(Record)
    )
    for i in range(count):
        result = &given[i]
        record = _record(results.records, i)
        record.domain = result.pci.domain
        record.rid = result.pci.rid
        record.has = (
            HAS_PCI * result.has_pci | HAS_BEFORE * result.has_before
            | HAS_AFTER * result.has_after | CHANGED * result.changed
            | VERIFIED * result.verified
        )
        record.mechanism = <uint8_t>result.mechanism
        _pack(&record.wanted, &result.wanted)
        _pack(&record.before, &result.before)
        _pack(&record.after, &result.after)
        record.error = 0
        if result.error is not NULL:
            results.errors.append(error_of(result.error))
            record.error = len(results.errors)
    return results


cdef void _pack(State *packed, const ibh_state *state) noexcept nogil:
    packed.node = state.node
    packed.port = state.port
    packed.have = state.have
    packed.policy = state.policy
    packed.pending = state.pending
    packed.pkey = state.pkey
    memcpy(packed.pkeys, state.pkeys, sizeof(packed.pkeys))


cdef bint _is_state(const State *state) noexcept nogil:
    cdef size_t i
    for i in range(2):
        if memchr(state.pkeys[i], 0, IBH_PKEY) is NULL:
            return False
    return state.policy < 3


cdef _state(const State *packed):
    cdef ibh_state state
    state.node = packed.node
    state.port = packed.port
    state.have = packed.have
    state.policy = packed.policy
    state.pending = packed.pending
    state.pkey = packed.pkey
    memcpy(state.pkeys, packed.pkeys, sizeof(packed.pkeys))
    return state_of(&state)


cdef state_of(const ibh_state *state):
    return _new(VfState, (
        Guid(state.node) if state.have & IBH_HAVE_NODE else None,
        Guid(state.port) if state.have & IBH_HAVE_PORT else None,
        _policies[state.policy] if state.have & IBH_HAVE_POLICY else None,
        (text_of(state.pkeys[0]), text_of(state.pkeys[1]))
        if state.have & IBH_HAVE_PKEYS else None,
        state.pending,
        PKey.of_entry(state.pkey) if state.have & IBH_HAVE_PKEY else None,
    ))


cdef pf_of(const ibh_pf *pf):
    cdef unsigned int i
    ports = tuple([
        Port(
            pf.ports[i].number,
            text_of(pf.ports[i].state),
            pf.ports[i].sm_lid,
            Guid(pf.ports[i].guid) if pf.ports[i].guid else None,
        )
        for i in range(pf.port_count)
    ])
    return Pf(
        pci=address_of(pf.pci),
        family=_families[<int>pf.family],
        driver=text_of(pf.driver),
        ib_device=text_of(pf.ib_device),
        ports=ports,
        netdevs=tuple([
            Netdev(
                text_of(pf.netdevs[i].name),
                pf.netdevs[i].ifindex,
                pf.netdevs[i].port,
                tuple(text_of(pf.netdevs[i].altnames).split(",")[:-1]),
            )
            for i in range(pf.netdev_count)
        ]),
        numvfs=pf.numvfs,
        totalvfs=pf.totalvfs,
        offset=pf.offset,
        stride=pf.stride,
        autoprobe=pf.autoprobe,
        port=ports[0].number,
        node_guid=Guid(pf.node_guid) if pf.node_guid else None,
    )


cdef vf_of(pf, const ibh_vf *vf):
    return Vf(
        pf,
        vf.index,
        address_of(vf.pci),
        text_of(vf.driver) or None,
        vf.in_use,
    )


cdef address_of(ibh_pci pci):
    cdef char text[IBH_PCI_TEXT + 1]
    ibh_format_pci(pci, text)
    return PciAddress(text_of(text))


cdef error_of(const ibh_error *error):
    return _kinds[error.kind](
        text_of(error.message),
        text_of(error.device),
        text_of(error.attribute),
        error.number or None,
        text_of(error.cure),
    )


cdef text_of(const char *text):
    """None for none. One that was cut to fit may end within a character."""
    if text is NULL:
        return None
    return PyUnicode_DecodeUTF8(text, strlen(text), "replace")


cdef ibh_kind kind_of(error) noexcept:
    for kind in type(error).__mro__:
        if kind in _kinds:
            return <ibh_kind>(<int>_kinds.index(kind))
    return IBH_OTHER


cdef ibh_family family_of(family) except *:
    return <ibh_family>(<int>_families.index(family))


cdef ibh_policy policy_of(policy) except *:
    return <ibh_policy>(<int>_policies.index(policy))
