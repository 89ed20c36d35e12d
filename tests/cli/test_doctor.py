# SPDX-License-Identifier: Apache-2.0
"""ibhostdev doctor."""

import os
import shutil
from functools import partial

import pytest

from ibhostdev import Host, doctor
from ibhostdev.batch import BatchResult
from ibhostdev.cli.options import Settings
from ibhostdev.errors import AccessDenied
from ibhostdev.privilege.request import Request
from ibhostdev.privilege.rootwrap import Rootwrap
from tests.flavours import ONES
from tests.testbed import Hca

MAC = "fa:16:3e:00:00:01"
GUID = "fa:16:3e:00:00:00:00:01"
OTHER = "fa:16:3e:00:00:00:00:02"


def findings(run, severity=None, check=None):
    found = run("doctor", "--json").json["findings"]
    return [
        one
        for one in found
        if severity in (None, one["severity"])
        and check in (None, one["check"])
    ]


def test_a_healthy_host(host, run):
    done = run("doctor", "--json")
    assert done.code == 0
    assert done.json["ok"] is True
    for one in done.json["findings"]:
        assert set(one) == {
            *("check", "severity", "device", "message", "cure")
        }
        assert (one["severity"], one["cure"]) == ("ok", None)
    done = run("doctor")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "nothing to complain about"


def test_what_to_do_before_vfs_are_enabled(host, run):
    host.numvfs(0, 0)
    (slow,) = findings(run, "note", "VFs")
    assert slow["device"] == host.pfs[0]
    assert "sriov_drivers_autoprobe" in slow["cure"]


def test_a_slip_in_the_mapping(host, run):
    mapping = f"--physical-device-mappings=red:ib0,red:{host.pfs[1]},red:ib9"
    done = run("doctor", mapping, "--json")
    assert done.code == 1
    (one,) = [
        one for one in done.json["findings"] if one["severity"] == "problem"
    ]
    assert one["check"] == "mapping"
    assert "'red' is mapped to ib9" in one["message"]
    assert "there are: ib0, ib1" in one["message"]
    plug = f"{host.vf(0, 0)}={MAC}"
    mapping = "--physical-device-mappings=red:ib9"
    done = run("plug", mapping, "--physical-network=red", plug)
    assert done.code == 2
    assert "'red' is mapped to ib9" in done.err
    assert "there are: ib0, ib1" in done.err


def test_a_pf_that_no_network_has(host, run):
    mapping = "--physical-device-mappings=red:ib0"
    done = run("doctor", mapping, "--json")
    assert done.code == 0
    (one,) = [
        one for one in done.json["findings"] if one["check"] == "mapping"
    ]
    assert (one["severity"], one["device"]) == ("warning", host.pfs[1])
    assert "no physical network is mapped to it" in one["message"]
    mapping = "--physical-device-mappings="
    assert "mapping" not in run("doctor", mapping).out


def test_no_network_device_and_nothing_else(bed, run):
    bed.build(Hca(vfs=2, netdev=False))
    done = run("doctor", "--json")
    assert done.code == 1
    assert done.json["ok"] is False
    (one,) = findings(run, "problem")
    assert (one["check"], one["device"]) == ("mechanism", bed.pfs[0])
    assert "ib_ipoib" in one["cure"]
    assert run("doctor").out.splitlines()[-1].startswith("1 problem")


def test_second_choice_and_what_it_means(bed, run):
    bed.build(Hca("mlx5-ofed", vfs=2, netdev=False))
    (one,) = findings(run, "warning")
    assert "mlx5_sysfs" in one["message"]
    assert "Neutron agent" in one["message"]
    assert run("doctor").code == 0


def test_a_vf_that_was_left_without_its_driver(host, run):
    """By an unplug that was killed between unbinding and binding it."""
    host.bind(host.vf(0, 1), None)
    (one,) = findings(run, "warning")
    assert (one["check"], one["device"]) == ("own driver", host.pfs[0])
    assert host.vf(0, 1) in one["message"]
    assert f"echo {host.vf(0, 1)} > /sys/bus/pci/drivers_probe" in one["cure"]
    assert "autoprobe" not in one["cure"]
    host.write("bus/pci/drivers_probe", host.vf(0, 1))
    assert findings(run, "warning") == []


def test_vfs_without_a_driver_that_are_meant_to_be(host, run):
    """All are for guests: they come without, and from a guest as well."""
    path = f"bus/pci/devices/{host.pfs[0]}/sriov_drivers_autoprobe"
    host.write(path, 0)
    vfs = [vf.address for vf in host.host.machine.pfs[0].vfs]
    for vf in vfs[1:]:
        host.bind(vf, None)
    # one that nobody has beside one that the host has
    (one,) = findings(run, "warning")
    assert vfs[1] in one["message"]
    assert one["cure"].endswith(f"after 'echo 1 > /sys/{path}'")
    host.bind(vfs[0], "vfio-pci")
    assert findings(run, "warning") == []
    host.bind(vfs[0], None)
    assert findings(run, "warning") == []


def test_a_network_device_in_another_namespace(host, run):
    host.host.machine.pfs[0].netdevs[0].fault = "namespace"
    (one,) = findings(run, "problem")
    assert one["device"] == host.pfs[0]
    assert "network namespace" in one["message"]
    assert "ip link set" in one["cure"]


def test_a_kernel_that_cannot_tell_about_many_vfs(host, run):
    host.host.machine.emsgsize_from = 4
    for one in findings(run, "warning"):
        assert "EMSGSIZE" in one["message"]
        assert "kernel" in one["cure"]
    assert len(findings(run, "warning")) == 2
    assert run("doctor").code == 0


def test_mlx4_is_no_second_choice(bed, run):
    bed.build(Hca("mlx4", vfs=2))
    assert findings(run, "warning") == findings(run, "problem") == []


def show(bed, path, text):
    """As the driver does, to whom a file that only reads is no hindrance."""
    file = bed.folder / "sys" / path
    file.unlink()
    file.write_text(text)
    file.chmod(0o444)


def port(bed, name):
    return f"bus/pci/devices/{bed.pfs[0]}/infiniband/mlx5_0/ports/1/{name}"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("state", "2: INIT\n", "port 1 is INIT"),
        ("sm_lid", "0x0\n", "port 1 sees no subnet manager"),
    ],
)
def test_a_port_without_a_fabric(host, run, name, text, told):
    show(host, port(host, name), text)
    (one,) = findings(run, "problem")
    assert one["check"] == "fabric"
    assert told in one["message"]
    host.numvfs(0, 0)
    (one,) = findings(run, "note", "fabric")
    assert told in one["message"]


def test_vfs_not_enabled(host, run):
    host.numvfs(0, 0)
    (one,) = findings(run, "warning", "VFs")
    assert one["device"] == host.pfs[0]
    assert "sriov_numvfs" in one["cure"]
    host.numvfs(1, 0)
    assert len(findings(run, "problem", "VFs")) == 2
    assert run("doctor").code == 1


def test_firmware_without_vfs(bed, run):
    bed.build(Hca(vfs=0))
    (one,) = findings(run, "problem", "VFs")
    assert "NUM_OF_VFS" in one["cure"]


def test_vfs_without_an_iommu_group(host, run):
    link = host.folder / f"sys/bus/pci/devices/{host.vf(0, 1)}/iommu_group"
    link.unlink()
    (one,) = findings(run, "problem", "IOMMU")
    assert host.vf(0, 1) in one["message"]
    assert "intel_iommu=on" in one["cure"]


def test_vfs_in_one_iommu_group(host, run):
    devices = host.folder / "sys/bus/pci/devices"
    group = (devices / host.vf(0, 0) / "iommu_group").resolve()
    other = group / "devices" / host.vf(0, 1)
    other.symlink_to(devices / host.vf(0, 1))
    (one,) = findings(run, "warning", "IOMMU")
    assert one["device"] == f"{host.vf(0, 0)}, {host.vf(0, 1)}"


# As others set them, some with the bit that makes a MAC a group's.
@pytest.mark.parametrize("twice", [GUID, "11:22:33:44:77:66:77:90"])
def test_a_guid_on_two_vfs(host, run, twice):
    host.seed(0, 0, twice, twice, "follow")
    host.seed(1, 2, OTHER, twice, "follow")
    (one,) = findings(run, "problem")
    assert one["device"] == f"{host.vf(0, 0)}, {host.vf(1, 2)}"
    assert twice in one["message"]
    # and the cure is one
    assert one["cure"].startswith(f"'ibhostdev unplug {twice}'")
    assert run("unplug", twice).code == 0
    assert findings(run, "problem") == []
    assert host.seen(0)[0].port == host.seen(1)[2].port == ONES


def test_a_guid_on_two_fabrics(host, run):
    """MACs are unique in a network only."""
    for pf in (0, 1):
        host.seed(pf, 0, GUID, GUID, "follow")
    mapping = "--physical-device-mappings=red:ib0,blue:ib1"
    assert "on all of them" not in run("doctor", mapping).out
    host.seed(1, 1, GUID, GUID, "follow")
    told = run("doctor", mapping, "--json").json["findings"]
    (one,) = [one for one in told if one["severity"] == "problem"]
    assert one["device"] == f"{host.vf(1, 0)}, {host.vf(1, 1)}"
    # A PF that is not mapped may be on either.
    mapping = "--physical-device-mappings=red:ib0"
    told = run("doctor", mapping, "--json").json["findings"]
    (one,) = [one for one in told if one["severity"] == "problem"]
    assert host.vf(0, 0) in one["device"]


def test_half_an_identity(host, run):
    host.seed(0, 0, GUID, ONES, "follow")
    (one,) = findings(run, "warning")
    assert one["device"] == host.vf(0, 0)
    assert GUID in one["message"]
    assert ONES in one["message"]


def test_two_guids_that_differ_are_somebodys_choice(host, run):
    host.seed(0, 0, GUID, OTHER, "follow")
    assert findings(run, "warning") == []


def test_a_pfs_guid_on_a_vf(host, run):
    pf = host.pfs[1]
    (device,) = (host.sys / "bus/pci/devices" / pf / "infiniband").iterdir()
    node = (device / "node_guid").read_text().strip().replace(":", "")
    own = ":".join(node[i : i + 2] for i in range(0, 16, 2))
    host.seed(0, 0, own, own, "follow")
    (one,) = findings(run, "problem")
    assert one["device"] == host.vf(0, 0)
    assert own in one["message"]
    assert pf in one["message"]
    # and the cure is one
    assert one["cure"].startswith(f"'ibhostdev unplug {own}'")
    assert run("unplug", own).code == 0
    assert findings(run, "problem") == []


def test_a_plugged_vf_that_is_down(host, run):
    host.seed(0, 0, GUID, GUID, "down")
    (one,) = findings(run, "warning")
    assert "administratively down" in one["message"]


def test_an_identity_without_a_running_guest(host, run):
    host.seed(0, 0, GUID, GUID, "follow")
    (one,) = findings(run, "note", "GUIDs")
    assert host.vf(0, 0) in one["message"]
    with host.hold(host.vf(0, 0)):
        assert findings(run, "note", "GUIDs") == []


def test_what_the_vfs_own_driver_shows(host, run):
    host.seed(0, 0, GUID, GUID, "follow")
    # It took none, and a guest will see the right one.
    assert findings(run, check="own driver") == []
    host.bind(host.vf(0, 0), None)
    host.bind(host.vf(0, 0), "mlx5_core")
    assert findings(run, check="own driver") == []
    assert run("unplug", "--no-rebind", MAC).code == 0
    (one,) = findings(run, "warning", "own driver")
    assert host.vf(0, 0) in one["message"]


def test_a_vf_that_firmware_does_not_tell_about(bed, run):
    bed.build(Hca("mlx5", vfs=2))
    bed.fail_queries(bed.vf(0, 1), 5)
    found = findings(run, "warning", "state")
    assert any(bed.vf(0, 1) in one["message"] for one in found)


def test_a_vf_with_one_port_of_two_is_not_ill(bed, run):
    bed.build(Hca("mlx4", vfs=2, ports=2))
    (iov,) = (bed.sys / "bus/pci/devices" / bed.pfs[0]).glob(
        "infiniband/*/iov"
    )
    for folder in iov.glob("*.[12]/ports/2"):
        shutil.rmtree(folder)
    assert findings(run, "warning", "state") == []
    shown = run("list").out
    assert "not known" not in shown


def test_locks_on_a_read_only_file_system(host, run, monkeypatch):
    """Nobody may write there, and it is no use to be root."""
    found = list(os.statvfs(host.folder))
    found[8] |= os.ST_RDONLY  # f_flag
    read_only = os.statvfs_result(found)
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    (finding,) = findings(run, "problem", "rights")
    assert "is on a read-only file system" in finding["message"]
    assert finding["cure"].startswith("mount a writable one there")


def test_locks_that_cannot_be_made(host, run, tmp_path):
    (tmp_path / "file").touch()
    done = run("doctor", "--run-dir", str(tmp_path / "file/run"))
    assert done.code == 1
    assert f"{tmp_path}/file is no folder" in " ".join(done.out.split())


# -- a machine, of which only sysfs is laid out ---------------------------


def function(sysfs, pci, **attributes):
    """A function of NVIDIA's."""
    device = sysfs / "bus/pci/devices" / pci
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x15b3\n")
    for name, text in attributes.items():
        if name == "driver":
            (sysfs / "drivers" / text).mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(sysfs / "drivers" / text)
        else:
            (device / name).write_text(text)


def machine(tmp_path, **attributes):
    """A machine with one function of a Mellanox adapter."""
    attributes.setdefault("class", "0x020700\n")
    function(tmp_path, "0000:3b:00.0", **attributes)
    return Host(tmp_path, run_dir=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("attributes", "told", "cure"),
    [
        ({}, "no SR-IOV capability", "SRIOV_EN=1"),
        ({"sriov_totalvfs": "8\n"}, "has no driver", "modprobe mlx5_core"),
        (
            {"sriov_totalvfs": "8\n", "driver": "mlx5_core"},
            "is on mlx5_core, but shows no InfiniBand port",
            "mlx5_ib",
        ),
    ],
)
def test_why_an_adapter_is_none_of_ours(tmp_path, attributes, told, cure):
    host = machine(tmp_path, **attributes)
    found = doctor.examine(host, str(tmp_path), simulated=False)
    (one,) = (x for x in found if x.check == "adapters")
    assert one.severity == "problem"
    assert one.device == "0000:3b:00.0"
    assert told in one.message
    assert cure in one.cure


@pytest.mark.parametrize(
    "kind", ["0x060400\n", "0x080100\n", "0x020000\n", "0x028000\n"]
)
def test_what_is_beside_pfs_that_work_is_left_alone(host, run, kind):
    """Bridges, a BlueField's management function, adapters for Ethernet."""
    function(host.folder / "sys", "0000:9a:00.0", driver="mlx5_core",
             sriov_totalvfs="8\n", **{"class": kind})  # fmt: skip
    assert "0000:9a:00.0" not in run("doctor").out


@pytest.mark.parametrize("driver", ["vfio-pci", "mlx5_vfio_pci", "pciback"])
def test_a_pf_that_a_guest_has_as_a_whole(host, run, driver):
    function(host.folder / "sys", "0000:9a:00.0", driver=driver,
             sriov_totalvfs="8\n", **{"class": "0x020700\n"})  # fmt: skip
    (one,) = (
        x for x in findings(run, check="adapters")
        if x["device"] == "0000:9a:00.0"
    )  # fmt: skip
    assert (one["severity"], one["cure"]) == ("ok", None)
    assert f"on {driver}: as a whole for a guest" in one["message"]


def test_a_bridge_is_no_adapter(tmp_path):
    host = machine(tmp_path, **{"class": "0x060400\n"})
    found = doctor.examine(host, str(tmp_path), simulated=False)
    (one,) = (x for x in found if x.check == "adapters")
    assert (one.severity, one.device) == ("problem", None)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ([], "mstconfig -d 0000:3b:00.0 set SRIOV_EN=1 NUM_OF_VFS=16' (of "),
        (["mstconfig"], "mstconfig -d 0000:3b:00.0 set"),
        (["mlxconfig"], "mlxconfig -d 0000:3b:00.0 set"),
        (["mlxconfig", "mstconfig"], "mstconfig -d 0000:3b:00.0 set"),
    ],
)
def test_a_cure_names_a_tool_that_is_here(tmp_path, monkeypatch, there, told):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in there:
        (tools / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tools))
    found = doctor.examine(machine(tmp_path), str(tmp_path), simulated=False)
    (one,) = (x for x in found if x.check == "adapters")
    assert one.cure.startswith(f"'{told}")
    assert ("mstflint" in one.cure) == (not there)


def test_the_rights_of_who_is_asked(host, run, monkeypatch):
    def asked(answer):
        def call(_, request):
            assert (request.action, request.vifs) == ("plug", ())
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(Rootwrap, "call", call)
        own = host.connect()
        privileged = partial(Settings(privilege="rootwrap").ask,
                             Request("plug", ()))  # fmt: skip
        found = doctor.examine(own, "/nowhere/at/all", True, privileged)
        return [one for one in found if one.check == "rights"]

    (one,) = asked(BatchResult(()))
    assert one.severity == "ok"
    (_, doubt) = asked(BatchResult((), ["'red' is mapped to ib9"]))
    assert doubt.severity == "problem"
    assert "'red' is mapped to ib9" in doubt.message
    (one,) = asked(AccessDenied("may not", "sudo", cure="add a rule"))
    assert (one.severity, one.device) == ("problem", "sudo")
    assert (one.message, one.cure) == ("may not", "add a rule")


def test_a_simulated_host_and_another_s_rights(host, run):
    done = run("doctor", "--privilege", "rootwrap")
    assert done.code == 2
    assert "do not go together" in done.err


def test_no_adapter_at_all(tmp_path):
    found = doctor.examine(Host(tmp_path), str(tmp_path), simulated=False)
    (one,) = (x for x in found if x.check == "adapters")
    assert one.severity == "problem"
    assert "lspci" in one.cure


def test_no_rights(tmp_path, monkeypatch):
    """Whoever runs the tests: what the kernel says is laid out."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(doctor.rights, "_lacks", lambda capability: True)
    host = machine(tmp_path, sriov_totalvfs="8\n")
    found = doctor.examine(host, str(tmp_path), simulated=False)
    assert any(
        one.check == "rights"
        and one.severity == "problem"
        and "CAP_DAC_OVERRIDE" in one.cure
        and "--privilege" in one.cure
        for one in found
    )


@pytest.mark.parametrize(
    ("simulated", "user", "helps"),
    [(False, 1000, True), (False, 0, False), (True, 1000, False)],
)
def test_who_else_may_plug(tmp_path, monkeypatch, simulated, user, helps):
    """Root lacks rights in a container, where no other has them."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    host = machine(tmp_path, sriov_totalvfs="8\n")
    found = doctor.examine(host, str(tmp_path), simulated=simulated)
    (one,) = (x for x in found if "locks of PFs" in x.message)
    assert ("--privilege" in one.cure) == helps
    assert "--run-dir" in one.cure
