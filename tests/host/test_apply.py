# SPDX-License-Identifier: Apache-2.0
"""The host as it is to be: made so, and made so again."""

import errno
import os

import pytest

from ibhostdev import Guid
from ibhostdev.errors import (
    CommandFailed,
    DeviceInUse,
    DeviceNotFound,
    GuidConflict,
    InvalidInput,
)
from ibhostdev.inventory import Policy
from ibhostdev.provision.apply import apply
from ibhostdev.provision.reading import from_file
from ibhostdev.provision.report import Claims
from ibhostdev.provision.wish import derived
from tests.flavours import ONES, ZERO, guid, vifs
from tests.testbed import Hca, Seen

EMPTY = Hca("mlx5", vfs=0, total=8)


@pytest.fixture
def wish(bed, tmp_path):
    """Applies what a file says."""

    def wish(text, claims=None, **how):
        file = tmp_path / "host.yaml"
        for pf, address in enumerate(bed.pfs):
            text = text.replace(f"PF{pf}", address)
        file.write_text(text)
        wishes = from_file(str(file))
        return apply(bed.connect(), wishes, claims or Claims(), **how)

    yield wish
    for pf in bed.pfs:
        path = f"bus/pci/devices/{pf}/sriov_drivers_autoprobe"
        bed.write(path, 1)


def autoprobe(bed, pf):
    file = bed.sys / "bus/pci/devices" / bed.pfs[pf]
    return (file / "sriov_drivers_autoprobe").read_text().strip()


def seen(*guids, policy="follow"):
    return [
        Seen(one, one, "down" if one in (ONES, ZERO) else policy)
        for one in guids
    ]


def drivers(bed, pf, count):
    return [bed.driver(bed.vf(pf, index)) for index in range(count)]


def again(bed, wish, text, **how):
    """A second call writes nothing, and says so."""
    bed.reset_counts()
    report = wish(text, **how)
    assert report.errors == []
    assert not report.changed
    assert (bed.counts().modify, bed.counts().probe) == (0, 0)


TWO = f"""
- pf: PF0
  vfs: 4
  driver: mlx5_core
  guids: [{guid(1)}, idle, {guid(3)}]
- pf: PF1
  vfs: 3
  guids: {{from: {guid(16)}, to: {guid(31)}}}
"""


@pytest.mark.parametrize("family", ["mlx5", "mlx5-ofed"])
def test_a_host_from_nothing(bed, wish, family):
    hca = Hca(family, vfs=0, total=8)
    bed.build(hca, hca)
    bed.reset_counts()
    report = wish(TWO)
    assert report.errors == []
    assert report.changed
    assert bed.seen(0) == seen(guid(1), ZERO, guid(3), ZERO)
    assert bed.seen(1) == seen(guid(16), guid(17), guid(18))
    assert drivers(bed, 0, 4) + drivers(bed, 1, 3) == ["mlx5_core"] * 7
    # each was bound once, when it had its identity
    assert bed.counts().probe == 7
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    assert bed.identity(bed.vf(1, 2)) == guid(18)
    assert [autoprobe(bed, pf) for pf in (0, 1)] == ["1", "1"]
    assert report.notes == [
        f"{bed.pfs[0]} has 4 VFs, and the last 1 of them get no GUID: there "
        "are no more"
    ]
    again(bed, wish, TWO)


def test_it_is_told_before_it_is_done(bed, wish):
    bed.build(EMPTY, EMPTY)
    bed.reset_counts()
    report = wish(TWO, dry_run=True)
    assert report.errors == []
    assert [(pf.vfs_before, pf.vfs) for pf in report.pfs] == [(0, 4), (0, 3)]
    assert [vf.guid for vf in report.vfs][:3] == [
        Guid.parse(guid(1)), None, Guid.parse(guid(3)),
    ]  # fmt: skip
    assert [vf.driver for vf in report.vfs] == ["mlx5_core"] * 7
    assert report.changed
    assert [pf.numvfs for pf in bed.connect().pfs] == [0, 0]
    assert bed.counts().modify == 0
    wish(TWO)
    assert not wish(TWO, dry_run=True).changed


def test_for_guests_alone(bed, wish):
    """No VF meets the host's own driver."""
    bed.build(Hca("mlx5", vfs=1, total=8), EMPTY)
    bed.bind(bed.vf(0, 0), "vfio-pci")  # loads it
    bed.reset_counts()
    text = "- {pf: PF1, vfs: 4, driver: vfio-pci, guids: derived}"
    assert wish(text).errors == []
    assert drivers(bed, 1, 4) == ["vfio-pci"] * 4
    assert bed.counts().probe == 0
    pf = bed.connect().pfs[1]
    assert bed.seen(1) == seen(*(str(derived(pf, n)) for n in range(4)))
    again(bed, wish, text)
    # the next one that comes by itself goes there, too
    override = bed.sys / f"bus/pci/devices/{bed.vf(1, 0)}/driver_override"
    assert override.read_text().strip() == "vfio-pci"


def test_on_no_driver_and_autoprobe_off(bed, wish):
    bed.build(EMPTY)
    bed.reset_counts()
    text = "- {pf: PF0, vfs: 3, driver: none, autoprobe: no}"
    wish(text)
    assert drivers(bed, 0, 3) == [None] * 3
    assert autoprobe(bed, 0) == "0"
    assert bed.counts().probe == 0
    again(bed, wish, text)
    wish("- {pf: PF0, driver: mlx5_core}")
    assert drivers(bed, 0, 3) == ["mlx5_core"] * 3
    assert autoprobe(bed, 0) == "0"


def test_autoprobe_stays_off_where_it_was(bed, wish):
    bed.build(EMPTY)
    file = f"bus/pci/devices/{bed.pfs[0]}/sriov_drivers_autoprobe"
    bed.write(file, 0)
    wish("- {pf: PF0, vfs: 2}")
    assert autoprobe(bed, 0) == "0"
    assert drivers(bed, 0, 2) == [None, None]
    wish("- {pf: PF0, vfs: 2, autoprobe: yes}")
    assert autoprobe(bed, 0) == "1"


def test_old_tenants_do_not_come_back(bed, wish):
    """The driver gives new VFs what the old ones had."""
    bed.build(Hca("mlx5", vfs=4))
    host = bed.connect()
    host.plug(vifs(bed, 1, 2, 3, 4))
    bed.numvfs(0, 0)
    assert wish(f"- {{pf: PF0, vfs: 4, guids: ['{guid(7)}']}}").errors == []
    assert bed.seen(0) == seen(guid(7), ONES, ONES, ONES)
    assert [bed.identity(bed.vf(0, n)) for n in (0, 1)] == [guid(7), ONES]
    # one that somebody claims stays
    host.plug(vifs(bed, 1, 2))
    bed.numvfs(0, 0)
    claims = Claims({Guid.parse(guid(2)): "domain web"})
    report = wish("- {pf: PF0, vfs: 4}", claims)
    assert bed.seen(0) == seen(ONES, guid(2), ONES, ONES)
    assert "domain web claims it" in report.notes[0]


def test_vfs_that_were_there_keep_what_they_have(bed, wish):
    """Who has it the file does not know: Nova may."""
    bed.build(Hca("mlx5", vfs=3))
    bed.connect().plug(vifs(bed, 1, 2, 3))
    again(bed, wish, "- {pf: PF0, vfs: 3, guids: idle}")
    assert bed.seen(0) == seen(guid(1), guid(2), guid(3))
    text = f"- {{pf: PF0, guids: [idle, '{guid(9)}']}}"
    bed.reset_counts()
    assert wish(text).errors == []
    assert bed.seen(0) == seen(guid(1), guid(9), guid(3))
    # it is bound anew, for its driver showed what it had
    assert bed.counts().probe == 1
    assert bed.identity(bed.vf(0, 1)) == guid(9)
    again(bed, wish, text)


def test_other_numbers(bed, wish):
    bed.build(EMPTY)
    for number in (2, 6, 3, 0):
        text = f"- {{pf: PF0, vfs: {number}, guids: derived}}"
        assert wish(text).errors == []
        assert len(bed.seen(0)) == number
        again(bed, wish, text)


def test_guests_keep_their_vfs(bed, wish):
    bed.build(Hca("mlx5", vfs=4, total=8), Hca("mlx5", vfs=2))
    bed.connect().plug(vifs(bed, 1, 2))
    with bed.hold(bed.vf(0, 1)):
        for number in (0, 3, 5):
            with pytest.raises(DeviceInUse) as caught:
                wish(
                    f"- {{pf: PF1, vfs: 1}}\n- {{pf: PF0, vfs: {number}}}",
                    Claims(vfs={bed.vf(0, 1): "domain web"}),
                )
            assert f"{bed.vf(0, 1)} (domain web)" in caught.value.message
        # nothing else was touched, either
        assert len(bed.seen(1)) == 2
        text = (
            "- {pf: PF0, vfs: 4, driver: mlx5_core, guids: "
            f"[idle, '{guid(2)}', '{guid(5)}']}}"
        )
        assert wish(text).errors == []
        assert bed.driver(bed.vf(0, 1)) == "vfio-pci"
        assert bed.seen(0)[1:3] == seen(guid(2), guid(5))
        report = wish(f"- {{pf: PF0, guids: [idle, '{guid(8)}']}}")
        assert isinstance(report.errors[0], DeviceInUse)
        assert bed.seen(0)[1] == seen(guid(2))[0]
    assert bed.driver(bed.vf(0, 1)) == "mlx5_core"


def test_other_pfs_are_nobodys_business(bed, wish):
    bed.build(EMPTY, Hca("mlx5", vfs=2))
    bed.connect().plug(vifs(bed, 1, pf=1))
    with pytest.raises(GuidConflict) as caught:
        wish(f"- {{pf: PF0, vfs: 2, guids: ['{guid(1)}']}}")
    assert bed.vf(1, 0) in caught.value.message
    assert "line 1, column 8" in str(caught.value)
    assert len(bed.seen(0)) == 0
    assert bed.seen(1)[0] == seen(guid(1))[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {pf: PF0, vfs: 1}\n- {pf: nothere}", "line 2, column 8"),
        ("- {pf: PF0, vfs: 1}\n- {pf: IB0}", "is the PF PF0 again"),
        ("- {pf: PF0, vfs: 1}\n- {pf: PF1, vfs: 900}", "can have"),
        ("- {pf: PF0, driver: mlx4_core}", "none of mlx4_core's"),
        (f"- {{pf: PF0, vfs: 2, guids: ['{guid(1)}', '{guid(1)}']}}",
         "VF 1 of PF0 and of VF 0 of PF0"),
        ("- {pf: PF0, vfs: 2, guids: [OWN]}", "the PF PF0"),
    ],
)  # fmt: skip
def test_what_cannot_be_touches_nothing(bed, wish, text, told):
    bed.build(EMPTY, EMPTY)
    pf = bed.connect().pfs[0]
    text = text.replace("IB0", pf.ib_device)
    text = text.replace("OWN", f"'{pf.ports[0].guid}'")
    with pytest.raises((InvalidInput, DeviceNotFound)) as caught:
        wish(text)
    assert told.replace("PF0", bed.pfs[0]) in str(caught.value)
    assert [pf.numvfs for pf in bed.connect().pfs] == [0, 0]


def test_by_every_name(bed, wish):
    bed.build(EMPTY)
    pf = bed.connect().pfs[0]
    names = (pf.ib_device, pf.netdev.name, pf.ports[0].guid, pf.pci[5:])
    for number, name in enumerate(names, 1):
        wish(f"- pf: '{name}'\n  vfs: {number}")
        assert len(bed.seen(0)) == number


def test_a_vf_that_fails_does_not_stop_the_others(bed, wish):
    bed.build(Hca("mlx5", vfs=4))
    text = "- {pf: PF0, vfs: 4, driver: mlx5_core, guids: derived}"
    bed.numvfs(0, 0)
    bed.numvfs(0, 4)
    bed.fail(bed.vf(0, 2), errno.EIO)
    report = wish(text)
    (error,) = report.errors
    assert isinstance(error, CommandFailed)
    assert error.device == bed.vf(0, 2)
    pf = bed.connect().pfs[0]
    wanted = seen(*(str(derived(pf, n)) for n in range(4)))
    assert [bed.seen(0)[n] for n in (0, 1, 3)] == [
        wanted[n] for n in (0, 1, 3)
    ]
    bed.heal()
    assert wish(text).errors == []
    assert bed.seen(0) == wanted
    again(bed, wish, text)


def test_policies(bed, wish):
    bed.build(EMPTY)
    text = (
        "- pf: PF0\n  vfs: 3\n  policy: up\n  guids:\n"
        f"  - {guid(1)}\n  - {{guid: '{guid(2)}', policy: down}}\n"
    )
    assert wish(text).errors == []
    assert [one.policy for one in bed.seen(0)] == ["up", "down", "down"]
    again(bed, wish, text)
    assert Policy(bed.seen(0)[0].policy) is Policy.UP


def test_two_guids(bed, wish):
    """Each of them is looked after: a driver shows the node GUID."""
    bed.build(Hca("mlx5", vfs=1, total=4))
    both = f"{{node_guid: '{guid(1)}', port_guid: '{guid(2)}'}}"
    text = f"- {{pf: PF0, vfs: 2, driver: mlx5_core, guids: [{both}]}}"
    assert wish(text).errors == []
    assert bed.seen(0)[0] == Seen(guid(1), guid(2), "follow")
    assert bed.identity(bed.vf(0, 0)) == guid(1)
    again(bed, wish, text)
    with pytest.raises(InvalidInput, match="would be that of VF 1"):
        wish(f"- {{pf: PF0, guids: [{both}, '{guid(1)}']}}")


def test_mlx4(bed, wish):
    bed.build(Hca("mlx4", vfs=2))
    text = f"- {{pf: PF0, vfs: 2, guids: ['{guid(1)}']}}"
    assert wish(text).errors == []
    assert bed.seen(0)[0].port == guid(1)
    again(bed, wish, text)
    with pytest.raises(InvalidInput, match="num_vfs"):
        wish("- {pf: PF0, vfs: 1}")


def test_nothing_is_left_in_the_folder_of_locks(bed, wish):
    bed.build(EMPTY)
    wish("- {pf: PF0, vfs: 2, guids: derived}")
    folder = bed.connect().run_dir
    assert [n for n in os.listdir(folder) if "making" in n] == []
