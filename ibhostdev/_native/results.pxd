# SPDX-License-Identifier: Apache-2.0
from ibhostdev._native.api cimport (
    ibh_error,
    ibh_family,
    ibh_kind,
    ibh_pci,
    ibh_pf,
    ibh_policy,
    ibh_result,
    ibh_state,
    ibh_vf,
)

cdef class Results:
    cdef readonly bytes records
    cdef readonly list errors

cdef Results results_of(const ibh_result *given, size_t count)
cdef error_of(const ibh_error *error)
cdef state_of(const ibh_state *state)
cdef address_of(ibh_pci pci)
cdef text_of(const char *text)
cdef pf_of(const ibh_pf *pf)
cdef vf_of(pf, const ibh_vf *vf)
cdef ibh_family family_of(family) except *
cdef ibh_kind kind_of(error) noexcept
cdef ibh_policy policy_of(policy) except *
