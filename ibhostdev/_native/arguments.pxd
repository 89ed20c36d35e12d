# SPDX-License-Identifier: Apache-2.0
from ibhostdev._native.api cimport (
    ibh_mapping,
    ibh_pci,
    ibh_pf,
    ibh_state,
    ibh_vif,
)

cdef class Mappings:
    cdef ibh_mapping *items
    cdef size_t count
    cdef list owners

cdef class Indices:
    cdef unsigned int *items
    cdef size_t count

cdef class Vifs:
    cdef ibh_vif *vifs
    cdef ibh_state *states
    cdef size_t count
    cdef tuple owners

cdef const char *encoded(text, what) except NULL
cdef int fill_pci(ibh_pci *pci, address) except -1
cdef int fill_pf(ibh_pf *native, pf) except -1
