# SPDX-License-Identifier: Apache-2.0
"""PCI addresses, GUIDs and MACs as text: every VIF comes as such."""

from libc.stdint cimport uint64_t

from ibhostdev._native.api cimport (
    IBH_GUID_IDLE,
    IBH_GUID_TEXT,
    IBH_PCI_TEXT,
    ibh_format_guid,
    ibh_format_pci,
    ibh_guid_from_mac,
    ibh_hex_digit,
    ibh_parse_octets,
    ibh_pci,
    ibh_read_pci,
)

cdef extern from *:
    """
    /* Its UTF-8 if it is ASCII; what is not has no characters here. */
    static const char *ascii(PyObject *text, Py_ssize_t *size)
    {
        const char *utf8 = PyUnicode_AsUTF8AndSize(text, size);

        if (utf8 && *size == PyUnicode_GetLength(text))
            return utf8;
        if (!utf8) {
            /* Half of a surrogate pair has none. */
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                return NULL;
            PyErr_Clear();
        }
        *size = 0;
        return "";
    }

    /* kind(value), of a subclass that has no constructor of its own, without
     * the detours of a call. */
    static PyObject *subclassed(PyTypeObject *base, PyObject *kind,
                                PyObject *value)
    {
        PyObject *args, *made;
        newfunc constructor;

        if (!PyType_Check(kind) ||
            !PyType_IsSubtype((PyTypeObject *)kind, base)) {
            PyErr_SetString(PyExc_TypeError, "no subclass");
            return NULL;
        }
        constructor = (newfunc)PyType_GetSlot(base, Py_tp_new);
        args = PyTuple_Pack(1, value);
        if (!args)
            return NULL;
        made = constructor((PyTypeObject *)kind, args, NULL);
        Py_DECREF(args);
        return made;
    }
    """
    ctypedef struct PyTypeObject:
        pass

    PyTypeObject PyLong_Type
    PyTypeObject PyTuple_Type
    PyTypeObject PyUnicode_Type
    const char *ascii(text, Py_ssize_t *size) except NULL
    object subclassed(PyTypeObject *base, kind, value)

cdef extern from "Python.h":
    bint PyUnicode_Check(text)
    str PyUnicode_FromStringAndSize(const char *text, Py_ssize_t size)

cdef enum:
    MAC_DIGITS = 12
    GUID_DIGITS = 16
    GROUPS_TEXT = 19  # "fa16:3e00:0012:3456", as ib_core shows it


cdef const char *_ascii(text, Py_ssize_t *size) except NULL:
    """What is not ASCII is none of these, and has no characters here."""
    if not PyUnicode_Check(text):
        raise TypeError(f"no text: {text!r}")
    return ascii(text, size)


cdef bint _digits(const char *text, Py_ssize_t size, uint64_t *number):
    cdef Py_ssize_t i
    cdef int digit
    number[0] = 0
    for i in range(size):
        digit = ibh_hex_digit(text[i])
        if digit < 0:
            return False
        number[0] = number[0] << 4 | <unsigned int>digit
    return True


cdef bint _octets(
    const char *text, Py_ssize_t size, int count, uint64_t *number
):
    """With the same separator between all of them, : or -."""
    cdef char colons[IBH_GUID_TEXT]
    cdef Py_ssize_t i
    if size != count * 3 - 1 or size > IBH_GUID_TEXT:
        return False
    for i in range(size):
        colons[i] = text[i]
        if text[2] == b"-" and i % 3 == 2:
            if text[i] != b"-":
                return False
            colons[i] = b":"
    return ibh_parse_octets(colons, size, count, number) == 0


cdef bint _mac(const char *text, Py_ssize_t size, uint64_t *mac):
    """Octets, or their digits alone."""
    if size == MAC_DIGITS:
        return _digits(text, size, mac)
    return _octets(text, size, 6, mac)


cpdef str pci_address(text):
    """In the kernel's form; None if it is no PCI address."""
    cdef char made[IBH_PCI_TEXT + 1]
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef ibh_pci pci
    if ibh_read_pci(given, size, &pci):
        return None
    ibh_format_pci(pci, made)
    return made.decode("ascii")


def guid_of_mac(text):
    """Its number; None if it is no MAC."""
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef uint64_t mac
    return ibh_guid_from_mac(mac) if _mac(given, size, &mac) else None


cdef bint _guid(const char *text, Py_ssize_t size, uint64_t *number) noexcept:
    """Octets, groups of four digits, or digits. mlx4 leaves out zeros in
    front of them, which are three at most: less would be digits of a MAC."""
    cdef char digits[GUID_DIGITS]
    cdef Py_ssize_t i
    if size == IBH_GUID_TEXT:
        return _octets(text, size, 8, number)
    if size == GROUPS_TEXT:
        for i in range(size):
            if i % 5 < 4:
                digits[i - i // 5] = text[i]
            elif text[i] != b":":
                return False
        return _digits(digits, GUID_DIGITS, number)
    if size > 2 and text[0] == b"0" and text[1] in b"xX":
        text += 2
        size -= 2
    return MAC_DIGITS < size <= GUID_DIGITS and _digits(text, size, number)


def guid(text):
    """Its number; None if it is no GUID."""
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef uint64_t number
    return number if _guid(given, size, &number) else None


def vif_of(kind, pci_kind, guid_kind, pci, identity, network):
    """The fields of a Vif as one, of PCI address, and MAC or GUID, that have
    no blanks around them, for node and port; None if one is not right, or
    can be nobody's identity."""
    cdef Py_ssize_t size
    cdef uint64_t mac, number
    cdef const char *given = _ascii(identity, &size)
    if _mac(given, size, &mac):
        number = ibh_guid_from_mac(mac)
    elif not _guid(given, size, &number):
        return None
    if number == 0 or number == IBH_GUID_IDLE:
        return None
    if pci is not None:
        pci = pci_address(pci)
        if pci is None:
            return None
        pci = subclassed(&PyUnicode_Type, pci_kind, pci)
    return subclassed(&PyTuple_Type, kind, (
        pci, subclassed(&PyLong_Type, guid_kind, number), network, None,
        None
    ))


def octets(uint64_t number):
    """A GUID's text."""
    cdef char made[IBH_GUID_TEXT + 1]
    ibh_format_guid(number, made)
    return PyUnicode_FromStringAndSize(made, IBH_GUID_TEXT)
