# SPDX-License-Identifier: Apache-2.0
"""A simulated host being served: its sockets, its files, its threads."""

import contextlib
import json
import logging
import os
import select
import shutil
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import (
    EACCES,
    EEXIST,
    EIO,
    ELOOP,
    EMSGSIZE,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    EPERM,
    EROFS,
)
from pathlib import Path
from types import TracebackType
from typing import Self

from inotify_simple import INotify, flags

from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
)
from ibhostdev.simulate.fifo import Fifo
from ibhostdev.simulate.kernel import Kernel
from ibhostdev.simulate.layout import Layout
from ibhostdev.simulate.model import Birth, Counts, HcaSpec, Machine
from ibhostdev.simulate.netlink import (
    HELLO,
    MAXIMUM,
    PATH,
    VALUE,
    WRITE,
    Message,
    acknowledge,
    attributes,
    open_socket,
    pack,
    unpack,
)
from ibhostdev.simulate.rtnetlink import Rtnetlink
from ibhostdev.simulate.state import read_state, require_own
from ibhostdev.simulate.tree import serves

_LOG = logging.getLogger(__name__)
_FIRMWARE = ("node", "port", "policy")  # files whose every read asks it
_NO_FOLDER = (EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR)
#: More writes than this wait for one another. Each may be a driver probe.
_PARALLEL = 256


class SimulatedHost:
    """A host in a folder, served by threads of this process::

        with SimulatedHost(folder, [HcaSpec("mlx5", vfs=8)]):
            host = simulate.connect(folder)

    The folder is made if need be. One that is not empty must have been a
    simulated host before; its ``sys`` and ``run`` are laid out anew, nothing
    else in it is touched. Raises InvalidInput for any other folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        specs: Sequence[HcaSpec] = (HcaSpec(), HcaSpec()),
        iommu: bool = True,
    ) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.machine = Machine(list(specs), iommu)
        self._options = {
            "iommu": iommu,
            "hcas": [vars(spec) for spec in specs],
        }
        self._watched: dict[int, str] = {}
        self._watching = threading.Lock()
        self._reacting = threading.Lock()
        self._threads: list[threading.Thread] = []

    # ---- life -----------------------------------------------------------

    def start(self) -> Self:
        self._claim()
        root = self.folder / "sys"
        self._inotify = INotify()
        self.kernel = Kernel(
            self.machine, Layout(root, self._watch, self._written)
        )
        self._rtnetlink = Rtnetlink(self.kernel)
        self.kernel.boot()
        self._fifos: dict[str, Fifo] = {}
        for path in self.kernel.layout.actions:
            self._fifos[path] = Fifo(root, path)
            self._watch(os.path.dirname(path))
        self._netlink, self._writes = _server_socket(), _server_socket()
        self._stop, self._stopping = os.pipe()
        self._pool = ThreadPoolExecutor(_PARALLEL, "store")
        # A shell's next write begins when the kernel is through with the
        # last one; here it does not wait, so they are done in turn.
        self._turn = ThreadPoolExecutor(1, "shell")
        for target in (self._serve_netlink, self._serve_sysfs):
            self._threads.append(threading.Thread(target=target, daemon=True))
            self._threads[-1].start()
        self._describe()
        return self

    def close(self) -> None:
        """Stop serving; the folder stays as it is, to be looked at."""
        if not self._threads:
            return
        os.write(self._stopping, b"x")
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._pool.shutdown()
        self._turn.shutdown()
        self.kernel.sm.stop()
        self._netlink.close()
        self._writes.close()
        self._inotify.close()
        for fifo in self._fifos.values():
            fifo.close()
        os.close(self._stop)
        os.close(self._stopping)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _claim(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            used = any(self.folder.iterdir())
        except OSError as error:
            kind: type[IbHostdevError] = CommandFailed
            if error.errno in _NO_FOLDER:
                kind = InvalidInput
            elif error.errno in (EACCES, EPERM, EROFS):
                kind = AccessDenied
            raise kind(
                "cannot be used",
                str(self.folder),
                "host.json",
                error.errno,
                "choose another folder",
            ) from error
        require_own(self.folder)
        if used:
            old = read_state(self.folder)
            if serves(old["sysfs_port"], self.folder, 1.0):
                raise InvalidInput(
                    f"process {old['pid']} serves this simulated host",
                    device=str(self.folder),
                    cure="stop it first, or choose another folder",
                )
            # Said to be not served before anything of it goes
            state = json.dumps(old | {"sysfs_port": 0})
            (self.folder / "host.json").write_text(state)
            for name in ("sys", "run"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in (".new", ".old"):  # of one that was killed
                (self.folder / name).unlink(missing_ok=True)
        (self.folder / "sys").mkdir()
        (self.folder / "run").mkdir()

    def _describe(self) -> None:
        networks = [
            netdev.name for pf in self.machine.pfs for netdev in pf.netdevs
        ]
        networks += [pf.address for pf in self.machine.pfs if not pf.netdevs]
        text = json.dumps(
            {
                "simulated_host": 1,
                "pid": os.getpid(),
                "netlink_port": self._netlink.getsockname()[0],
                "sysfs_port": self._writes.getsockname()[0],
                "physical_networks": {"default": networks},
                "options": self._options,
            },
            indent=1,
        )
        new = self.folder / ".new"
        new.write_text(f"{text}\n")
        new.replace(self.folder / "host.json")

    # ---- good days and bad, for tests -----------------------------------

    def fail(self, vf: str, errno: int, first: int = 1) -> None:
        """The VF's changing commands fail, from the ``first``-th one on. On
        mlx4, where no errno comes back, the SM refuses instead."""
        self.machine.fail(vf, errno, first)

    def fail_queries(self, vf: str, errno: int) -> None:
        """Netlink leaves the VF out; reads of MLNX_OFED's files give EIO,
        whichever errno is asked for. 0 ends it."""
        self.kernel.fail_queries(vf, errno)

    def heal(self) -> None:
        """No more failures; what the SM refused is asked for again."""
        for vf in list(self.machine.failing_queries):
            self.kernel.fail_queries(vf, 0)
        self.machine.heal()
        self.sm_silent(False)

    def die(self, pf: str, dead: bool = True) -> None:
        """devlink says that a PF's firmware is dead, or well again."""
        with self.machine.lock:
            (self.machine.dead.add if dead else self.machine.dead.discard)(pf)

    def fail_numvfs(self, pf: str, errno: int, after: int = 0) -> None:
        """The next VFs of a PF are not made: ``sriov_numvfs`` ends with an
        errno when ``after`` of them are there, which go again."""
        self.machine.births[pf] = Birth(errno, after)

    def delay(
        self, command: float = 0.0, probe: float = 0.0, birth: float = 0.0
    ) -> None:
        """Seconds that a firmware command, a VF driver's probe, the making
        of a VF take."""
        self.machine.command_delay = command
        self.machine.probe_delay = probe
        self.machine.birth_delay = birth

    def counts(self) -> Counts:
        self._react()
        return self.machine.counts()

    def reset_counts(self) -> None:
        self._react()
        self.machine.reset_counts()

    def seed(
        self,
        vf: str,
        node: int | None = None,
        port: int | None = None,
        policy: int | None = None,
        netlink: bool = True,
    ) -> None:
        """Set an identity behind everybody's back, uncounted and at once;
        ``netlink`` says whether netlink can read it. ``policy`` is DOWN, UP
        or FOLLOW. On mlx4 ``port`` goes to all ports, the rest nowhere."""
        found = self.kernel.vf(vf)
        with self.machine.lock:
            if found.pf.spec.mlx4:
                for number, alias in found.pf.aliases.items():
                    if port is not None:
                        alias.admin[found.index + 1] = port
                        alias.operational[found.index + 1] = port
                    self.kernel.layout.alias(found.pf, number, found.index + 1)
                return
            wanted = {"node": node, "port": port, "policy": policy}
            for what, value in wanted.items():
                if value is not None:
                    self.kernel.seed(found, what, value, netlink)

    def emsgsize_from(self, vfs: int) -> None:
        """A GETLINK with VF data of a PF with so many VFs fails, its dump
        does not; 0 ends it."""
        self.machine.emsgsize_from = vfs

    def deny(self, netlink: int = 0, sysfs: int = 0) -> None:
        """Errno of every RTM_SETLINK, of every write; 0: none."""
        self.machine.deny_netlink = netlink
        self.machine.deny_sysfs = sysfs

    def deafen(self, pf: str, errno: int) -> None:
        """A GETLINK with VF data of a PF fails, and so does a dump."""
        self.machine.deaf[pf] = errno

    def netdev(self, name: str, fault: str = "") -> None:
        """ "absent": the PF has no such interface; "namespace": sysfs shows
        it but netlink and ioctls do not know it; "other": they know another
        device of that name; "": all is well again."""
        with self.machine.lock:
            for pf in self.machine.pfs:
                for netdev in pf.netdevs:
                    if netdev.name == name:
                        netdev.fault = fault
                        self.kernel.layout.netdev(
                            pf, netdev, fault != "absent"
                        )

    def sm_silent(self, silent: bool = True) -> None:
        """The SM does not answer mlx4, or does again."""
        self.machine.sm_silent = silent
        if not silent:
            self.kernel.sm.ask_all()

    def port(
        self,
        pf: str,
        port: int = 1,
        state: str = "4: ACTIVE",
        sm_lid: int = 1,
    ) -> None:
        with self.machine.lock:
            found = self.kernel.pf(pf)
            found.states[port], found.sm_lids[port] = state, sm_lid
            self.kernel.layout.ports(found)
        self.kernel.sm.ask_all()

    @contextlib.contextmanager
    def hold(self, vf: str) -> Iterator[None]:
        """Meanwhile a guest has the VF open, which is on a vfio driver."""
        found = self.kernel.vf(vf)
        self.kernel.open_vfio(found, True)
        try:
            yield
        finally:
            self.kernel.open_vfio(found, False)

    def take(self, vf: str, driver: str) -> None:
        """As soon as the VF is unbound, somebody else binds this driver to
        it."""
        self.kernel.takers[vf] = driver

    def garble(self, name: str, text: bytes) -> None:
        """Writable files whose paths end like this read so from now on,
        whatever they are to show."""
        with self.machine.lock:
            self.kernel.layout.garble(name, text.decode("latin-1"))

    # ---- serving --------------------------------------------------------

    def _serve_netlink(self) -> None:
        """This thread is the RTNL: one request after the other."""
        netlink = self._netlink.fileno()
        while True:
            ready, _, _ = select.select([netlink, self._stop], [], [])
            if self._stop in ready:
                return
            data, sender = _receive(self._netlink)
            for answer in self._rtnetlink.answer(data):
                _send(self._netlink, sender, answer)

    def _serve_sysfs(self) -> None:
        """Stores run in threads of their own: they may take long."""
        fifos = {fifo.fd: fifo for fifo in self._fifos.values()}
        poll = select.poll()
        for fd in (self._writes, self._inotify, self._stop, *fifos):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._stop:
                    return
                if fd == self._writes.fileno():
                    data, sender = _receive(self._writes)
                    for message in unpack(data):
                        if message.kind == WRITE:
                            self._pool.submit(self._store, sender, message)
                        elif message.kind == HELLO:
                            name = os.fsencode(self.folder)
                            reply = pack(HELLO, 0, message.sequence, name)
                            _send(self._writes, sender, reply)
                else:
                    # What was written to other files before comes first.
                    self._react(fifos.get(fd))

    def _store(self, sender: int, message: Message) -> None:
        given = dict(attributes(message.payload))
        path = os.fsdecode(given.get(PATH, b""))
        value = given.get(VALUE, b"").decode("latin-1")
        answer = acknowledge(message, self._write(path, value))
        _send(self._writes, sender, answer)

    def _write(self, path: str, value: str) -> int:
        try:
            self.kernel.write(path, value)
        except OSError as error:
            return error.errno or EIO
        except Exception:
            _LOG.exception("writing %r to %r", value, path)
            return EIO
        return 0

    # ---- shells ---------------------------------------------------------

    def _watch(self, folder: str) -> None:
        events = flags.CLOSE_WRITE
        if folder.rpartition("/")[0].endswith("/sriov"):
            events |= flags.CLOSE_NOWRITE
        with self._watching:
            wd = self._inotify.add_watch(f"{self.folder}/sys/{folder}", events)
            self._watched[wd] = folder

    def _react(self, open_fifo: Fifo | None = None) -> None:
        """Files were written by somebody who did not ask us, or read that
        firmware answers for; or a FIFO has lines that nobody closed yet."""
        with self._reacting:
            if open_fifo:
                open_fifo.look()
            with self._watching:
                events = [
                    (f"{self._watched[event.wd]}/{event.name}", event)
                    for event in self._inotify.read(timeout=0)
                    if event.wd in self._watched
                ]
            for path, event in events:
                if path in self._fifos:
                    self._written(path, self._fifos[path].closed())
                elif event.mask & flags.CLOSE_WRITE:
                    self._show(path)
                elif event.name in _FIRMWARE:
                    with self.machine.lock:
                        self.machine.query += 1
            if open_fifo:
                for line in open_fifo.unclosed():
                    self._written(open_fifo.path, line)

    def _show(self, path: str) -> None:
        """What was, until the store function has agreed."""
        with self.machine.lock, contextlib.suppress(FileNotFoundError):
            if path in self.kernel.layout.shown:
                self.kernel.layout.show(path)

    def _written(self, path: str, text: str) -> None:
        if text:
            self._turn.submit(self._shell, path, text)

    def _shell(self, path: str, text: str) -> None:
        if code := self._write(path, text):
            error = os.strerror(code)
            _LOG.warning("%r to %r: %s", text.strip(), path, error)


def _receive(sock: socket.socket) -> tuple[bytes, int]:
    """A datagram and whom it is from; none if one of them was lost, more
    having come than there is room for."""
    try:
        data, (sender, _) = sock.recvfrom(MAXIMUM)
    except OSError:
        return b"", 0
    return data, sender


def _send(sock: socket.socket, port: int, data: bytes) -> None:
    """Whoever asked may be gone, or not read: then it gets no answer."""
    try:
        sock.sendto(data, (port, 0))
    except OSError as error:
        asked = next(unpack(data), None)
        if error.errno == EMSGSIZE and asked:
            _send(sock, port, acknowledge(asked, EMSGSIZE))


def _server_socket() -> socket.socket:
    """Sends wait for a full receiver, as a dump of the kernel does, but not
    for ever. (A Python timeout would look at the wrong end's queue.)"""
    sock = open_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAXIMUM)
    wait = struct.pack("@ll", 5, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
    return sock
