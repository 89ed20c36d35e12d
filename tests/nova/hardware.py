# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# (tests here are as Nova's are, without types)
"""A simulated InfiniBand host for a compute service.

It is served by a process of its own: Nova's tests may be under eventlet,
which leaves no threads to serve it from. Requests go to that process as they
go to the privileged daemon, as plain data, and are run there.
"""

import contextlib
import json
import subprocess
import sys
import threading

import msgpack

from ibhostdev import errors
from ibhostdev import guid
from ibhostdev.privilege import request

NETWORK = "physnet4"
IDLE = frozenset({0, 0xFFFFFFFFFFFFFFFF})


def crossed(plain):
    """As privsep's messages come out at the other end."""
    return msgpack.unpackb(msgpack.packb(plain), use_list=False)


class Hardware:
    """The host, as tests see it."""

    def __init__(self, folder, vfs, netdev=True, other=False):
        """``other`` is a second HCA, which nothing but ebrctl serves."""
        self.folder = folder
        self.calls = []
        self.lost = False
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                folder,
                str(vfs),
                str(int(netdev)),
                str(int(other)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pf, self.vfs, self.others = self._ask("describe")

    def _ask(self, name, *args):
        with self._lock:
            self._process.stdin.write(json.dumps([name, *args]) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def run(self, asked):
        """In place of the daemon."""
        if self.lost:
            raise errors.AccessDenied("could not be started", "the daemon")
        if asked.vifs:
            self.calls.append((asked.action, len(asked.vifs)))
        answer = self._ask("run", crossed(asked.to_plain()))
        return request.read_answer(crossed(answer))

    @property
    def seen(self):
        """The VFs that have an identity or a link: PCI address to MAC, and
        what the link is if it does not follow the fabric."""
        return self._ask("seen")

    @property
    def saw(self):
        """The MACs that VFs had when a guest got them."""
        return self._ask("saw")

    @property
    def touched(self):
        """VFs that something was written to, or of, by whomsoever but
        libvirt."""
        return set(self._ask("touched"))

    def forget(self):
        self.calls.clear()
        self._ask("forget")

    def hold(self, wanted):
        """What libvirt does: guests have exactly these VFs."""
        self._ask("hold", sorted(wanted))

    def fail(self, vf, errno):
        self._ask("fail", vf, errno)

    def heal(self):
        self._ask("heal")

    def link(self, vf, policy):
        """What the Neutron agent does."""
        self._ask("link", vf, policy)

    def seed(self, vf, mac):
        """An identity from behind everybody's back."""
        self._ask("seed", vf, int(guid.Guid.from_mac(mac)))

    def close(self):
        self._process.communicate()


class Served:
    """The same in the process that serves it."""

    def __init__(self, folder, vfs, netdev, other):
        # Here only: they cannot be imported under eventlet.
        from ibhostdev import simulate
        from ibhostdev.simulate import model
        from ibhostdev.simulate import server

        self._links = {model.FOLLOW: "", model.DOWN: " down", model.UP: " up"}
        self._down = model.DOWN
        specs = [model.HcaSpec("mlx5", vfs=vfs, netdev=netdev)]
        if other:
            specs.append(model.HcaSpec("mlx5", vfs=vfs, netdev=False))
        self.host = server.SimulatedHost(folder, specs).start()
        self.pf = self.host.machine.pfs[0]
        self._touched = set()
        self._saw = {}
        self._held = {}
        pfs = [pf.address for pf in self.host.machine.pfs]
        self._connected = simulate.connect(
            folder, physical_networks={NETWORK: pfs}, ebrctl=None
        )
        machine, kernel = self.host.machine, self.host.kernel
        self._spy(machine, "change", lambda vf: vf)
        self._spy(kernel, "write", lambda path, value: value.strip())

    def _spy(self, thing, name, subject):
        real = getattr(thing, name)

        def spied(*args):
            self._touched.add(subject(*args))
            return real(*args)

        setattr(thing, name, spied)

    def describe(self):
        vfs, others = [], []
        for pf in self.host.machine.pfs:
            found = vfs if pf is self.pf else others
            found.extend(vf.address for vf in pf.vfs)
        return self.pf.address, vfs, others

    def run(self, plain):
        return request.run(plain, lambda _: self._connected)

    def seen(self):
        found = {}
        for vf in self.pf.vfs:
            idle = vf.node in IDLE and vf.port in IDLE
            if idle and vf.policy == self._down:
                continue
            found[vf.address] = (
                guid.Guid(vf.node).mac
                if vf.node == vf.port and not idle
                else f"node {vf.node:x} port {vf.port:x}"
            ) + self._links[vf.policy]
        return found

    def saw(self):
        return self._saw

    def touched(self):
        return sorted(self._touched)

    def forget(self):
        self._touched.clear()

    def hold(self, wanted):
        before = set(self._touched)
        for address in set(self._held) - set(wanted):
            self._held.pop(address).close()
            self._bind(address, "mlx5_core")
        for address in set(wanted) - set(self._held):
            self._bind(address, "vfio-pci")
            self._held[address] = contextlib.ExitStack()
            self._held[address].enter_context(self.host.hold(address))
            vf = self.host.kernel.vf(address)
            self._saw[address] = guid.Guid(vf.node).mac
        self._touched = before

    def _bind(self, address, driver):
        write = self.host.kernel.write
        vf = self.host.kernel.vf(address)
        if vf.driver:
            write(f"bus/pci/drivers/{vf.driver}/unbind", f"{address}\n")
        override = driver if driver == "vfio-pci" else ""
        path = f"bus/pci/devices/{address}/driver_override"
        write(path, f"{override}\n")
        write(f"bus/pci/drivers/{driver}/bind", f"{address}\n")

    def fail(self, vf, errno):
        self.host.fail(vf, errno)

    def heal(self):
        self.host.heal()

    def link(self, vf, policy):
        self.host.kernel.vf(vf).policy = policy

    def seed(self, vf, number):
        self.host.seed(vf, number, number)


def serve(folder, vfs, netdev, other):
    served = Served(folder, vfs, netdev, other)
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(getattr(served, name)(*args)), flush=True)
    served.hold([])
    served.host.close()


if __name__ == "__main__":
    serve(
        sys.argv[1],
        int(sys.argv[2]),
        sys.argv[3] == "1",
        sys.argv[4] == "1",
    )
