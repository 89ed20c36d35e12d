# SPDX-License-Identifier: Apache-2.0
"""Python's values, as the engine takes them."""

from cpython.tuple cimport PyTuple_GetItem
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memset

from ibhostdev._native.api cimport (
    IBH_HAVE_NODE,
    IBH_HAVE_PKEYS,
    IBH_HAVE_POLICY,
    IBH_HAVE_PORT,
    IBH_MAX_NETDEVS,
    IBH_MAX_PORTS,
    IBH_PKEY,
    ibh_mapping,
    ibh_netdev,
    ibh_parse_pci,
    ibh_pci,
    ibh_pf,
    ibh_port,
    ibh_state,
    ibh_vif,
)
from ibhostdev._native.results cimport family_of, policy_of

from ibhostdev.batch import Vif
from ibhostdev.errors import InvalidInput
from ibhostdev.guid import Guid

cdef extern from *:
    """
    /* 1 for one of more than 64 bits. */
    static int number_of(PyObject *guid, uint64_t *number)
    {
        *number = PyLong_AsUnsignedLongLong(guid);
        if (*number != UINT64_MAX || !PyErr_Occurred())
            return 0;
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        return 1;
    }
    """
    int number_of(guid, uint64_t *number) except -1

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(text, Py_ssize_t *size) except NULL

# Looked up once, not for each VIF.
cdef object _Vif = Vif

cdef enum:
    MOST_VFS = 0xFFFF  # NumVFs is a field of 16 bits (PCI Express, SR-IOV)


cdef const char *encoded(text, what) except NULL:
    """Of a str, which has to outlive it."""
    cdef Py_ssize_t size
    cdef const char *utf8
    try:
        utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        utf8 = NULL
    if utf8 is NULL or memchr(utf8, 0, size) is not NULL:
        raise InvalidInput(f"{text!r} is no name", attribute=what)
    return utf8


cdef int fill_pci(ibh_pci *pci, address) except -1:
    """From its long form, as PciAddress.parse() makes them and sysfs has
    them: what is a path's part must not be taken for it in another."""
    cdef Py_ssize_t size, i
    cdef const char *text = PyUnicode_AsUTF8AndSize(address, &size)
    cdef bint long_form = size >= 12 and (size == 12 or text[0] != b"0")
    for i in range(size):
        if b"A" <= text[i] <= b"F":
            long_form = False
    if not long_form or ibh_parse_pci(text, size, pci):
        raise InvalidInput(
            f"{str(address)!r} is not in its long form",
            attribute="pci",
            cure="make it with PciAddress.parse()",
        )
    return 0


cdef int _fill_name(char *name, size_t size, text) except -1:
    cdef Py_ssize_t length
    cdef const char *encoded = PyUnicode_AsUTF8AndSize(text, &length)
    if <size_t>length >= size or memchr(encoded, 0, length) is not NULL:
        raise InvalidInput(f"{text!r} is no name of a device")
    memcpy(name, encoded, length)
    name[length] = 0
    return 0


cdef int fill_pf(ibh_pf *native, pf) except -1:
    cdef ibh_port *port
    cdef ibh_netdev *netdev
    memset(native, 0, sizeof(native[0]))
    fill_pci(&native.pci, pf.pci)
    _fill_name(native.address, sizeof(native.address), pf.pci)
    _fill_name(native.ib_device, sizeof(native.ib_device), pf.ib_device)
    _fill_name(native.driver, sizeof(native.driver), pf.driver)
    native.family = family_of(pf.family)
    native.autoprobe = pf.autoprobe
    for one in pf.ports[:IBH_MAX_PORTS]:
        port = &native.ports[native.port_count]
        port.number = one.number
        port.sm_lid = one.sm_lid
        _fill_name(port.state, sizeof(port.state), one.state)
        native.port_count += 1
    for one in pf.netdevs[:IBH_MAX_NETDEVS]:
        netdev = &native.netdevs[native.netdev_count]
        netdev.ifindex = one.ifindex
        netdev.port = one.port
        _fill_name(netdev.name, sizeof(netdev.name), one.name)
        native.netdev_count += 1
    native.numvfs = min(pf.numvfs, MOST_VFS)
    native.totalvfs = pf.totalvfs
    native.offset = pf.offset
    native.stride = pf.stride
    return 0


cdef class Mappings:
    """Physical networks and the devices behind them."""

    def __cinit__(self, networks):
        cdef size_t i
        self.owners = [
            (str(network), str(device))
            for network, devices in networks.items()
            for device in devices
        ]
        self.count = len(self.owners)
        self.items = <ibh_mapping *>calloc(
            self.count + 1, sizeof(ibh_mapping)
        )
        if self.items is NULL:
            raise MemoryError
        for i, (network, device) in enumerate(self.owners):
            self.items[i].network = encoded(network, "physical_networks")
            self.items[i].device = encoded(device, "physical_networks")

    def __dealloc__(self):
        free(self.items)


cdef class Indices:
    """Of VFs, in order; those that cannot be are left out."""

    def __cinit__(self, indices):
        cdef size_t i
        found = sorted(index for index in indices if 0 <= index < MOST_VFS)
        self.count = len(found)
        self.items = <unsigned int *>calloc(
            self.count + 1, sizeof(unsigned int)
        )
        if self.items is NULL:
            raise MemoryError
        for i, index in enumerate(found):
            self.items[i] = index

    def __dealloc__(self):
        free(self.items)


cdef class Vifs:
    """The VIFs of a call, and the states that are wanted."""

    def __cinit__(self, vifs, states):
        cdef size_t i
        cdef ibh_vif *vif
        self.owners = tuple(vifs)
        self.count = len(self.owners)
        self.vifs = <ibh_vif *>calloc(self.count + 1, sizeof(ibh_vif))
        if self.vifs is NULL:
            raise MemoryError
        for i, one in enumerate(self.owners):
            vif = &self.vifs[i]
            if not isinstance(one, _Vif):
                raise TypeError(f"no Vif: {one!r}")
            # A field each: to unpack them is slow by the limited API.
            pci = <object>PyTuple_GetItem(one, 0)
            network = <object>PyTuple_GetItem(one, 2)
            node_guid = <object>PyTuple_GetItem(one, 3)
            pkey = <object>PyTuple_GetItem(one, 4)
            vif.port_guid = _number(<object>PyTuple_GetItem(one, 1))
            if node_guid is not None:
                vif.node_guid = _other(node_guid)
            if pkey is not None:
                # A member of both kinds is a full one first.
                vif.pkey = pkey.values[0]
            if pci is not None:
                fill_pci(&vif.pci, pci)
                vif.has_pci = True
            if network is not None:
                vif.network = encoded(network, "physical_network")
        if states is not None:
            self.states = <ibh_state *>calloc(
                self.count + 1, sizeof(ibh_state)
            )
            if self.states is NULL:
                raise MemoryError
            for i, (_, state) in enumerate(
                zip(self.owners, states, strict=True)
            ):
                _fill_state(&self.states[i], state)

    def __dealloc__(self):
        free(self.vifs)
        free(self.states)


cdef uint64_t _number(guid) except? 0:
    cdef uint64_t number
    if number_of(guid, &number):
        # This says so.
        Guid(guid).require_identity()
        raise OverflowError(guid)
    return number


cdef uint64_t _other(node_guid) except 0:
    """A node GUID of its own: the engine takes 0 for none."""
    cdef uint64_t number = _number(node_guid)
    if number == 0:
        Guid(number).require_identity()
    return number


cdef int _fill_state(ibh_state *native, state) except -1:
    cdef size_t i
    if state.node_guid is not None:
        native.have |= IBH_HAVE_NODE
        native.node = _number(state.node_guid)
    if state.port_guid is not None:
        native.have |= IBH_HAVE_PORT
        native.port = _number(state.port_guid)
    if state.policy is not None:
        native.have |= IBH_HAVE_POLICY
        native.policy = policy_of(state.policy)
    if state.pkeys is not None:
        native.have |= IBH_HAVE_PKEYS
        for i in range(2):
            _fill_name(native.pkeys[i], IBH_PKEY, state.pkeys[i])
    native.pending = state.pending
    return 0
