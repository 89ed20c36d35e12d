# SPDX-License-Identifier: Apache-2.0
"""The engine, for Python: values in, values out.

A call turns its values into the engine's own, is without the GIL for as long
as the engine works, and makes no objects but those that are asked for.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ibhostdev._native.api cimport (
    IBH_MAPPING_TEXT,
    IBH_NO_CHOICE,
    IBH_OTHER,
    c_bool,
    ibh_adjust,
    ibh_asks_all,
    ibh_asks_files,
    ibh_netdev_named,
    ibh_batch,
    ibh_batch_free,
    ibh_choice,
    ibh_choose,
    ibh_count_traffic,
    ibh_drive,
    ibh_driving,
    ibh_error,
    ibh_error_free,
    ibh_error_new,
    ibh_foreign,
    ibh_foreign_call,
    ibh_host,
    ibh_host_close,
    ibh_host_open,
    ibh_how,
    ibh_link,
    ibh_locate,
    ibh_make,
    ibh_making,
    ibh_mapping,
    ibh_mechanism,
    ibh_options,
    ibh_pci,
    ibh_pf,
    ibh_pfs,
    ibh_pfs_free,
    ibh_pfs_get,
    ibh_plug,
    ibh_read_mappings,
    ibh_restore,
    ibh_stage,
    ibh_state,
    ibh_survey,
    ibh_traffic,
    ibh_unplug,
    ibh_vf,
    ibh_vfs,
)
from ibhostdev._native.arguments cimport (
    Indices,
    Mappings,
    Vifs,
    encoded,
    fill_pci,
    fill_pf,
)
from ibhostdev._native.results cimport (
    Results,
    error_of,
    kind_of,
    pf_of,
    policy_of,
    results_of,
    state_of,
    text_of,
    vf_of,
)

import os
from _thread import get_ident as _get_ident
from time import monotonic

from ibhostdev.errors import (
    DeviceNotFound,
    IbHostdevError,
    RollbackFailed,
    TimedOut,
)
from ibhostdev.guid import Guid
from ibhostdev.inventory import MECHANISMS as _MECHANISMS
from ibhostdev.inventory import Traffic

cdef extern from "<unistd.h>" nogil:
    int getpid()
    int gettid()

# As enum ibh_stage counts.
cdef tuple _stages = ("write", "verify", "rebind", "make", "bind")
# As enum ibh_link does.
cdef tuple _links = ("raised", "kept", "lowered")


cdef enum Job:
    PLUG
    UNPLUG
    RESTORE
    ADJUST


cdef class Engine:
    """A host that the engine knows. Threads may share it.

    ``ebrctl`` has the functions of a mechanism that is Python's, or is None.
    They are called in the thread that calls plug() or unplug().
    """

    cdef ibh_host *host
    cdef object ebrctl
    cdef dict under_way  # a _Watch for each thread that is in a batch

    def __cinit__(self, str sysfs, str run_dir, networks,
                  bint networks_only_refuse, ebrctl,
                  unsigned int netlink_port, unsigned int sysfs_port,
                  double lock_seconds, double settle_seconds):
        cdef ibh_options options
        cdef ibh_foreign foreign
        cdef ibh_error *error = NULL
        cdef Mappings mappings = Mappings(networks)
        cdef bytes root = os.fsencode(sysfs), run = os.fsencode(run_dir)
        cdef int failed
        memset(&options, 0, sizeof(options))
        self.ebrctl = ebrctl
        self.under_way = {}
        options.sysfs = root
        options.run_dir = run
        options.netlink_port = netlink_port
        options.sysfs_port = sysfs_port
        options.lock_ms = _milliseconds(lock_seconds)
        options.patience_ms = _milliseconds(settle_seconds)
        options.mappings = mappings.items
        options.mapping_count = mappings.count
        options.mappings_only_refuse = networks_only_refuse
        if ebrctl is not None:
            memset(&foreign, 0, sizeof(foreign))
            foreign.name = "ebrctl"
            foreign.context = <void *>self
            foreign.obstacle = _obstacle
            foreign.check = _check
            foreign.write = _write
            foreign.forget = _forget
            options.foreign = &foreign
        with nogil:
            failed = ibh_host_open(&options, &self.host, &error)
        if failed:
            raise _taken(error)

    def __dealloc__(self):
        with nogil:
            ibh_host_close(self.host)

    # -- what is there ------------------------------------------------

    def pfs(self, bint anew, bint states):
        """The PFs, with the states of their ports if these are asked for, and
        for each that is ill why it is left out."""
        cdef _Pfs pfs = _Pfs(self, anew, states)
        cdef size_t i
        return (
            [pf_of(pfs.pfs.pfs[i]) for i in range(pfs.pfs.count)],
            [error_of(pfs.pfs.left_out[i])
             for i in range(pfs.pfs.left_out_count)],
        )

    def vfs(self, pf, indices):
        """The VFs of these indices that are there."""
        cdef ibh_pf native
        cdef ibh_error *error = NULL
        cdef Indices wanted = Indices(indices)
        cdef size_t i, found = 0
        cdef int failed
        cdef ibh_vf *vfs
        fill_pf(&native, pf)
        vfs = <ibh_vf *>calloc(wanted.count + 1, sizeof(ibh_vf))
        if vfs is NULL:
            raise MemoryError
        try:
            with nogil:
                failed = ibh_vfs(self.host, &native, wanted.items,
                                 wanted.count, vfs, &found, &error)
            if failed:
                raise _taken(error)
            return [vf_of(pf, &vfs[i]) for i in range(found)]
        finally:
            free(vfs)

    def locate(self, addresses):
        """The VF at each PCI address, or the DeviceNotFound that says why
        there is none."""
        cdef _Pfs pfs = _Pfs(self, False, False)
        cdef ibh_error *error
        cdef ibh_pci pci
        cdef const ibh_pf *pf
        cdef ibh_vf vf
        cdef int failed
        cdef dict made = {}
        cdef list found = []
        for address in addresses:
            fill_pci(&pci, address)
            error = NULL
            with nogil:
                failed = ibh_locate(self.host, pfs.pfs, pci, &pf, &vf, &error)
            if not failed:
                if <size_t>pf not in made:
                    made[<size_t>pf] = pf_of(pf)
                found.append(vf_of(made[<size_t>pf], &vf))
                continue
            why = _taken(error)
            if not isinstance(why, DeviceNotFound):
                raise why
            found.append(why)
        return found

    def choose(self, pf, forced):
        """The mechanism that serves a PF on its port, or None, and by name
        what is against those before it."""
        cdef ibh_pf native
        cdef ibh_choice choice
        cdef unsigned int port = pf.port
        cdef ibh_mechanism wanted = _mechanism(forced)
        fill_pf(&native, pf)
        with nogil:
            ibh_choose(self.host, &native, port, wanted, &choice)
        return (
            _MECHANISMS[<int>choice.mechanism]
            if choice.mechanism != IBH_NO_CHOICE else None,
            {
                name: text_of(choice.against[<size_t>i])
                for i, name in enumerate(_MECHANISMS)
                if choice.against[<size_t>i][0]
            },
        )

    def survey(self, pf, indices, forced):
        """State of the PF's VFs on its port by index: all that can be known
        of those of ``indices``, at least the GUIDs of the others. One that
        its driver could not be asked about is missing."""
        cdef ibh_pf native
        cdef ibh_error *error = NULL
        cdef Indices wanted = Indices(indices)
        cdef unsigned int port = pf.port, i
        cdef ibh_mechanism mechanism = _mechanism(forced)
        cdef ibh_state *states
        cdef c_bool *told
        cdef int failed
        fill_pf(&native, pf)
        states = <ibh_state *>calloc(native.numvfs + 1, sizeof(ibh_state))
        told = <c_bool *>calloc(native.numvfs + 1, sizeof(c_bool))
        try:
            if states is NULL or told is NULL:
                raise MemoryError
            with nogil:
                failed = ibh_survey(self.host, &native, port, mechanism,
                                    wanted.items, wanted.count, states, told,
                                    &error)
            if failed:
                raise _taken(error)
            return {
                i: state_of(&states[i])
                for i in range(native.numvfs)
                if told[i]
            }
        finally:
            free(states)
            free(told)

    def traffic(self, pf):
        """What the PF's VFs have sent and received, by index."""
        cdef ibh_pf native
        cdef ibh_error *error = NULL
        cdef unsigned int port = pf.port, i
        cdef ibh_traffic *counted
        cdef c_bool *told
        cdef int failed
        fill_pf(&native, pf)
        counted = <ibh_traffic *>calloc(native.numvfs + 1,
                                        sizeof(ibh_traffic))
        told = <c_bool *>calloc(native.numvfs + 1, sizeof(c_bool))
        try:
            if counted is NULL or told is NULL:
                raise MemoryError
            with nogil:
                failed = ibh_count_traffic(self.host, &native, port, counted,
                                           told, &error)
            if failed:
                raise _taken(error)
            return {
                i: Traffic(
                    counted[i].rx_packets,
                    counted[i].tx_packets,
                    counted[i].rx_bytes,
                    counted[i].tx_bytes,
                    counted[i].rx_broadcast,
                    counted[i].rx_multicast,
                    counted[i].rx_dropped,
                    counted[i].tx_dropped,
                )
                for i in range(native.numvfs)
                if told[i]
            }
        finally:
            free(counted)
            free(told)

    def netdev_named(self, altname):
        """The name of the network device that has an altname, or None."""
        cdef bytes given = os.fsencode(altname)
        cdef const char *text = given
        cdef char name[64]
        cdef int missing
        with nogil:
            missing = ibh_netdev_named(self.host, text, name)
        return None if missing else text_of(name)

    def asks_all(self, pf):
        """Whether the kernel could not tell of the PF's VFs alone."""
        cdef ibh_pf native
        cdef unsigned int port = pf.port
        cdef bint all_asked
        fill_pf(&native, pf)
        with nogil:
            all_asked = ibh_asks_all(self.host, &native, port)
        return bool(all_asked)

    def asks_files(self, pf):
        """Whether what the kernel said of the PF's VFs was of no use."""
        cdef ibh_pf native
        cdef unsigned int port = pf.port
        cdef bint files_asked
        fill_pf(&native, pf)
        with nogil:
            files_asked = ibh_asks_files(self.host, &native, port)
        return bool(files_asked)

    # -- batches ------------------------------------------------------

    cdef unexpected(self, error):
        """What a function of the caller's has raised, as the engine is to
        take it. What is none of its errors ends the batch, and is raised."""
        if isinstance(error, IbHostdevError):
            return error
        watch = self.under_way.get(_get_ident())
        if watch is not None and watch.raised is None:
            watch.raised = error
        return IbHostdevError(f"{type(error).__name__}: {error}")

    def plug(self, vifs, policy, link, bint renew, bint proceed, mechanism,
             bint dry_run, progress, until):
        """Results, those of VFs that a VIF's GUID was taken from for it,
        warnings, and what has ended the batch before its time."""
        cdef ibh_how how
        memset(&how, 0, sizeof(how))
        how.renew = renew
        how.proceed = proceed
        how.dry_run = dry_run
        how.set_policy = policy is not None
        if policy is not None:
            how.policy = policy_of(policy)
        how.link = <ibh_link><int>_links.index(link)
        return self.run(PLUG, vifs, None, &how, mechanism, progress, until)

    def unplug(self, vifs, bint rebind, bint proceed, mechanism,
               bint dry_run, progress):
        """Results, those of VFs that a VIF's GUID was taken from for it,
        warnings, and what has ended the batch before its time."""
        cdef ibh_how how
        memset(&how, 0, sizeof(how))
        how.keep_bound = not rebind
        how.proceed = proceed
        how.dry_run = dry_run
        return self.run(UNPLUG, vifs, None, &how, mechanism, progress, None)

    def restore(self, vifs, states):
        """Results, those of VFs that a VIF's GUID was taken from for it,
        warnings, and what has ended the batch before its time."""
        cdef ibh_how how
        memset(&how, 0, sizeof(how))
        return self.run(RESTORE, vifs, states, &how, None, None, None)

    def adjust(self, vifs, states):
        """As plug()."""
        cdef ibh_how how
        memset(&how, 0, sizeof(how))
        return self.run(ADJUST, vifs, states, &how, None, None, None)

    # -- VFs made, and their drivers ----------------------------------

    def make(self, numbers, progress):
        """For each PF's address and number of VFs whether they were made,
        and why not."""
        cdef ibh_how how
        cdef ibh_error *error = NULL
        cdef size_t count = len(numbers), i
        cdef int failed
        cdef _Watch watch = _Watch(progress, None)
        cdef ibh_making *makings = <ibh_making *>calloc(
            count + 1, sizeof(ibh_making)
        )
        if makings is NULL:
            raise MemoryError
        try:
            for i, (pf, vfs) in enumerate(numbers):
                fill_pci(&makings[i].pf, pf)
                makings[i].vfs = vfs
            _watched(&how, watch)
            with nogil:
                failed = ibh_make(self.host, makings, count, &how, &error)
            done = [] if failed else [
                (bool(makings[i].changed), _maybe(makings[i].error))
                for i in range(count)
            ]
            return _ended(watch, error, done)
        finally:
            free(makings)

    def drive(self, wishes, progress):
        """For each VF's address, driver and node GUID whether it was bound
        or unbound, and why not."""
        cdef ibh_how how
        cdef ibh_error *error = NULL
        cdef size_t count = len(wishes), i
        cdef int failed
        cdef _Watch watch = _Watch(progress, None)
        cdef ibh_driving *drivings = <ibh_driving *>calloc(
            count + 1, sizeof(ibh_driving)
        )
        if drivings is NULL:
            raise MemoryError
        try:
            for i, (vf, driver, guid) in enumerate(wishes):
                fill_pci(&drivings[i].vf, vf)
                if driver is not None:
                    drivings[i].driver = encoded(driver, "driver")
                drivings[i].node_guid = guid or 0
            _watched(&how, watch)
            with nogil:
                failed = ibh_drive(self.host, drivings, count, &how, &error)
            done = [] if failed else [
                (bool(drivings[i].changed), _maybe(drivings[i].error))
                for i in range(count)
            ]
            return _ended(watch, error, done)
        finally:
            free(drivings)

    cdef run(self, Job job, vifs, states, ibh_how *how, mechanism, progress,
             until):
        cdef Vifs given = Vifs(vifs, states)
        cdef _Watch watch = _Watch(progress, until)
        cdef ibh_batch *batch = NULL
        cdef ibh_error *error = NULL
        cdef int failed
        how.force = mechanism is not None
        how.mechanism = _mechanism(mechanism)
        how.context = <void *>watch
        if (watch.main or progress is not None or until is not None
                or self.ebrctl is not None):
            how.stop = _stop
        if progress is not None:
            how.progress = _progress
        me = _get_ident()
        before = self.under_way.get(me)
        self.under_way[me] = watch
        try:
            with nogil:
                if job == PLUG:
                    failed = ibh_plug(self.host, given.vifs, given.count, how,
                                      &batch, &error)
                elif job == UNPLUG:
                    failed = ibh_unplug(self.host, given.vifs, given.count,
                                        how, &batch, &error)
                elif job == RESTORE:
                    failed = ibh_restore(self.host, given.vifs, given.states,
                                         given.count, &batch, &error)
                else:
                    failed = ibh_adjust(self.host, given.vifs, given.states,
                                        given.count, &batch, &error)
        finally:
            if before is None:
                del self.under_way[me]
            else:
                self.under_way[me] = before
        try:
            results = None if batch is NULL else results_of(batch.results,
                                                            batch.count)
            ended = watch.raised
            if ended is not None:
                if results is not None:
                    _note(ended, results)
            elif watch.late and (failed or not how.proceed):
                ended = _late(error_of(error) if failed else None, results)
            elif failed:
                ended = error_of(error)
            if results is None:
                raise ended
            return (
                results,
                results_of(batch.moved, batch.moved_count),
                tuple([
                    text_of(batch.warnings[i])
                    for i in range(batch.warning_count)
                ]),
                ended,
            )
        finally:
            ibh_error_free(error)
            ibh_batch_free(batch)


cdef void _watched(ibh_how *how, _Watch watch):
    memset(how, 0, sizeof(how[0]))
    how.context = <void *>watch
    if watch.main or watch.progress is not None:
        how.stop = _stop
    if watch.progress is not None:
        how.progress = _progress


cdef _ended(_Watch watch, ibh_error *error, done):
    if watch.raised is not None:
        ibh_error_free(error)
        raise watch.raised
    if error is not NULL:
        raise _taken(error)
    return done


cdef void _note(raised, Results results):
    """What could not be put back is told along with why it was to be."""
    for error in results.errors:
        if isinstance(error, RollbackFailed):
            raised.add_note(str(error))


cdef _late(error, Results results):
    """Why a batch that its time limit has ended failed."""
    if results is not None:
        for left in results.errors:
            if isinstance(left, RollbackFailed):
                return left
        return TimedOut("the batch took too long; all VFs are as they were",
                        cure="see in the kernel log whether firmware answers")
    if error.errno != EINTR:
        return error
    return TimedOut("had to be waited for too long; nothing was written",
                    error.device, error.attribute, cure=error.cure)


# -- called by the engine -------------------------------------------------


cdef class _Watch:
    """Of a call: whether it is to end, and how far it is. Signals are looked
    for where Python handles them, in the main thread."""

    cdef readonly object progress
    cdef public object raised
    cdef readonly bint main
    cdef public bint late
    cdef readonly double until  # by the monotonic clock

    def __cinit__(self, progress, until):
        self.progress = progress
        self.until = INFINITY if until is None else until
        self.main = gettid() == getpid()


cdef int _stop(void *context) noexcept with gil:
    cdef _Watch watch = <_Watch>context
    if watch.raised is None and watch.main:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            watch.raised = error
    if monotonic() > watch.until:
        watch.late = True
    return watch.late or watch.raised is not None


cdef void _progress(void *context, ibh_stage stage, size_t done,
                    size_t total) noexcept with gil:
    cdef _Watch watch = <_Watch>context
    try:
        if watch.raised is None:
            watch.progress(_stages[<int>stage], done, total)
    except BaseException as error:
        watch.raised = error


cdef int _obstacle(void *context, char *why, size_t size) noexcept with gil:
    cdef Engine engine = <Engine>context
    cdef bytes text
    cdef size_t length
    try:
        reason = engine.ebrctl.obstacle()
    except BaseException as error:
        reason = engine.unexpected(error).message
    if reason is None:
        return 0
    text = reason.encode(errors="replace")
    length = min(<size_t>len(text), size - 1)
    memcpy(why, <const char *>text, length)
    why[length] = 0
    return 1


cdef ibh_error *_check(void *context, uint64_t guid) noexcept with gil:
    cdef Engine engine = <Engine>context
    try:
        engine.ebrctl.check(Guid(guid))
    except BaseException as error:
        return _native_error(engine.unexpected(error))
    return NULL


cdef void _write(void *context, ibh_foreign_call *calls,
                 size_t count) noexcept with gil:
    _ask((<Engine>context), "write", calls, count)


cdef void _forget(void *context, ibh_foreign_call *calls,
                  size_t count) noexcept with gil:
    _ask((<Engine>context), "forget", calls, count)


cdef void _ask(Engine engine, str what, ibh_foreign_call *calls,
               size_t count) noexcept:
    cdef size_t i
    watch = engine.under_way.get(_get_ident())
    until = INFINITY if watch is None else watch.until
    try:
        answers = getattr(engine.ebrctl, what)([
            (
                text_of(calls[i].address),
                Guid(calls[i].guid),
                Guid(calls[i].owner) if calls[i].owner else None,
                text_of(calls[i].network),
                INFINITY if calls[i].back else until,
            )
            for i in range(count)
        ])
    except BaseException as error:
        answers = [engine.unexpected(error)] * <Py_ssize_t>count
    for i, answer in enumerate(answers[:<Py_ssize_t>count]):
        if isinstance(answer, IbHostdevError):
            calls[i].error = _native_error(answer)
        elif what == "forget":
            calls[i].guid = answer is True
        else:
            calls[i].left = answer is False


cdef ibh_error *_native_error(error) noexcept:
    cdef bytes message
    try:
        message = str(error.message).encode(errors="replace")
        device, attribute, cure = [
            None if text is None else str(text).encode(errors="replace")
            for text in (error.device, error.attribute, error.cure)
        ]
        return ibh_error_new(
            kind_of(error), message, _bytes(device), _bytes(attribute),
            error.errno or 0, _bytes(cure),
        )
    except Exception:
        return ibh_error_new(IBH_OTHER, "failed, and cannot tell why", NULL,
                             NULL, 0, NULL)


cdef const char *_bytes(bytes text) except? NULL:
    if text is None:
        return NULL
    return text


# -- small matters --------------------------------------------------------


cdef class _Pfs:
    """The PFs as they were at one time."""

    cdef ibh_pfs *pfs

    def __cinit__(self, Engine engine, bint anew, bint states):
        cdef ibh_error *error = NULL
        cdef int failed
        with nogil:
            failed = ibh_pfs_get(engine.host, anew, states, &self.pfs,
                                 &error)
        if failed:
            raise _taken(error)

    def __dealloc__(self):
        ibh_pfs_free(self.pfs)


def read_mappings(text):
    """Networks and devices, in pairs.

    :raises InvalidInput: for what is no mapping
    """
    cdef bytearray copy = bytearray(encoded(text, "physical_device_mappings"))
    cdef ibh_mapping *found
    cdef ibh_error *error = NULL
    cdef size_t count, i
    found = <ibh_mapping *>calloc(
        len(copy) // IBH_MAPPING_TEXT + 1, sizeof(ibh_mapping)
    )
    if found is NULL:
        raise MemoryError
    try:
        if ibh_read_mappings(copy, NULL, found, &count, &error):
            raise _taken(error)
        return [
            (found[i].network.decode(), found[i].device.decode())
            for i in range(count)
        ]
    finally:
        free(found)


cdef _taken(ibh_error *error):
    """The engine's error as Python's, and freed."""
    try:
        return error_of(error)
    finally:
        ibh_error_free(error)


cdef _maybe(ibh_error *error):
    return None if error is NULL else _taken(error)


cdef unsigned int _milliseconds(double seconds) noexcept:
    # 0 would be the engine's own.
    return <unsigned int>min(max(seconds * 1000, 1), 2e9)


cdef ibh_mechanism _mechanism(name) except *:
    if name is None:
        return IBH_NO_CHOICE
    return <ibh_mechanism><int>_MECHANISMS.index(name)
