# SPDX-License-Identifier: Apache-2.0
"""PCI addresses, GUIDs and MACs as text: every VIF comes as such."""

from libc.stdint cimport uint64_t

from ibhostdev._native.api cimport (
    IBH_GUID_TEXT,
    IBH_PCI_TEXT,
    ibh_format_guid,
    ibh_format_pci,
    ibh_guid_from_mac,
    ibh_hex_digit,
    ibh_parse_octets,
    ibh_parse_pci,
    ibh_pci,
)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(text, Py_ssize_t *size) except NULL
    str PyUnicode_FromStringAndSize(const char *text, Py_ssize_t size)

cdef enum:
    MAC_TEXT = 17


cdef const char *_ascii(str text, Py_ssize_t *size) except NULL:
    """What is not ASCII is none of these, and has no characters here."""
    if not text.isascii():
        text = ""
    return PyUnicode_AsUTF8AndSize(text, size)


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


cdef bint _mac(const char *text, Py_ssize_t size, uint64_t *mac):
    """Octets with the same separator between all of them: : or - or none."""
    cdef char colons[MAC_TEXT]
    cdef Py_ssize_t i
    if size == 12:
        return _digits(text, size, mac)
    if size != MAC_TEXT:
        return False
    for i in range(MAC_TEXT):
        colons[i] = text[i]
        if text[2] == b"-" and i % 3 == 2:
            if text[i] != b"-":
                return False
            colons[i] = b":"
    return ibh_parse_octets(colons, MAC_TEXT, 6, mac) == 0


def pci_address(str text not None):
    """In the kernel's form; None if it is no PCI address."""
    cdef char made[IBH_PCI_TEXT + 1]
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef ibh_pci pci
    if ibh_parse_pci(given, size, &pci):
        return None
    ibh_format_pci(pci, made)
    return made.decode("ascii")


def guid_of_mac(str text not None):
    """Its number; None if it is no MAC."""
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef uint64_t mac
    return ibh_guid_from_mac(mac) if _mac(given, size, &mac) else None


def guid(str text not None):
    """Its number; None if it is neither octets nor digits."""
    cdef Py_ssize_t size
    cdef const char *given = _ascii(text, &size)
    cdef uint64_t number
    if size == IBH_GUID_TEXT:
        return None if ibh_parse_octets(given, size, 8, &number) else number
    if size == 18 and given[0] == b"0" and given[1] in b"xX":
        given += 2
        size = 16
    return number if size == 16 and _digits(given, size, &number) else None


def octets(uint64_t number):
    """A GUID's text."""
    cdef char made[IBH_GUID_TEXT + 1]
    ibh_format_guid(number, made)
    return PyUnicode_FromStringAndSize(made, IBH_GUID_TEXT)
