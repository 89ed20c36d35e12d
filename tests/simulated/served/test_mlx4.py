# SPDX-License-Identifier: Apache-2.0
"""mlx4's files."""

import errno
from collections.abc import Callable

from tests.simulated.served.bed import (
    GUID,
    IOV,
    PF,
    VF0,
    VF1,
    Bed,
    gid_is,
    wait,
)


def test_mlx4_guid_takes_effect_when_the_sm_answers(mlx4: Bed) -> None:
    mlx4.host.sm_silent()
    entry = f"{IOV}/ports/1/admin_guids/2"
    assert mlx4.set(PF, entry, "0211220000334455") == 0
    assert mlx4.read(PF, entry) == "211220000334455"  # no padding
    assert gid_is(mlx4, 2, "0000:0000:0000:0000")
    mlx4.host.sm_silent(False)
    wait(lambda: gid_is(mlx4, 2, "0211:2200:0033:4455"))
    assert mlx4.set(PF, entry, "ffffffffffffffff") == 0
    wait(lambda: gid_is(mlx4, 2, "0000:0000:0000:0000"))
    assert mlx4.read(PF, entry) == "ffffffffffffffff"
    assert mlx4.set(PF, entry, "0") == 0
    wait(lambda: mlx4.read(PF, entry) != "0")
    assert mlx4.host.counts().modify == 3


def test_mlx4_takes_any_text_without_a_word(mlx4: Bed) -> None:
    entry = f"{IOV}/ports/1/admin_guids/3"
    assert mlx4.set(PF, entry, "no GUID") == 0
    assert mlx4.read(PF, entry) not in ("0", "no GUID")
    assert mlx4.set(PF, entry, "0xff123456789abcdef0 and more") == 0
    assert mlx4.read(PF, entry) == "123456789abcdef0"


def test_mlx4_pf_entry_cannot_be_set_and_nobody_says_so(mlx4: Bed) -> None:
    entry = f"{IOV}/ports/1/admin_guids/0"
    before = mlx4.read(PF, entry)
    assert mlx4.set(PF, entry, "1") == 0
    assert mlx4.read(PF, entry) == before != "0"


def test_mlx4_failing_vf_is_refused_by_the_sm(mlx4: Bed) -> None:
    mlx4.host.fail(VF1, errno.EIO)
    for entry in (1, 2):
        path = f"{IOV}/ports/1/admin_guids/{entry}"
        assert mlx4.set(PF, path, f"{GUID:x}") == 0
    wait(lambda: gid_is(mlx4, 1, "fa16:3e00:000a:0b0c"))
    assert gid_is(mlx4, 2, "0000:0000:0000:0000")
    mlx4.host.heal()
    wait(lambda: gid_is(mlx4, 2, "fa16:3e00:000a:0b0c"))


def test_mlx4_vf_folders_are_named_by_slave(make: Callable[..., Bed]) -> None:
    bed = make("mlx4", vfs=10, ports=2)
    names = {p.name for p in bed.pci(PF, IOV).iterdir()} - {"ports"}
    assert len(names) == 11
    for name, slave in (
        ("0000:3b:00.0", "0"),
        ("0000:3b:00.7", "7"),
        ("0000:3b:01.2", "10"),
    ):
        for port in (1, 2):
            path = f"{IOV}/{name}/ports/{port}/gid_idx/0"
            assert bed.read(PF, path) == slave
    assert bed.read(PF, "net/ib0/dev_port") == "0"
    assert bed.read(PF, "net/ib1/dev_port") == "1"
    assert bed.link(4).get_attr("IFLA_PARENT_DEV_NAME") == PF
    path = f"{IOV}/ports/2/admin_guids/1"
    assert bed.set(PF, path, f"{GUID:x}") == 0
    wait(lambda: gid_is(bed, 1, "fa16:3e00:000a:0b0c", port=2))
    assert gid_is(bed, 1, "0000:0000:0000:0000", port=1)


def test_mlx4_pkey_idx(mlx4: Bed) -> None:
    folder = f"{IOV}/{VF0}/ports/1/pkey_idx"
    assert mlx4.read(PF, f"{folder}/0") == "0"
    assert mlx4.read(PF, f"{folder}/1") == "none"
    assert mlx4.read(PF, f"{IOV}/ports/1/pkeys/1") == "0x7fff"
    for text, shown in (("1\n", "1"), ("NOthing", "none"), ("0x2", "2")):
        assert mlx4.set(PF, f"{folder}/0", text) == 0
        assert mlx4.read(PF, f"{folder}/0") == shown
    last = len(list((mlx4.pci(PF, folder)).iterdir()))
    for text in (str(last), "-1", "one"):
        assert mlx4.set(PF, f"{folder}/0", text) == errno.EINVAL
    own = f"{IOV}/{PF}/ports/1/pkey_idx/0"
    assert mlx4.set(PF, own, "1") == errno.EINVAL


def test_mlx4_vf_sees_its_guid_at_probe(mlx4: Bed) -> None:
    mlx4.host.seed(VF0, port=GUID)
    assert gid_is(mlx4, 1, "fa16:3e00:000a:0b0c")
    assert mlx4.unbind(VF0, "mlx4_core") == 0
    assert mlx4.bind(VF0, "mlx4_core") == 0
    assert mlx4.identity(VF0) == "fa16:3e00:000a:0b0c"


def test_mlx4_cannot_change_numvfs(mlx4: Bed) -> None:
    assert mlx4.set(PF, "sriov_numvfs", "0") == errno.ENOENT
    assert mlx4.unbind(PF, "mlx4_core") == 0
    assert mlx4.bind(PF, "mlx4_core") == 0
    assert mlx4.read(PF, "sriov_numvfs") == "4"  # by the module option
