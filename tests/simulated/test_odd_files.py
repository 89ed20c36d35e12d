# SPDX-License-Identifier: Apache-2.0
"""Files and answers of drivers that are not what one may expect, or are not
there any more when it comes to writing."""

import errno
import shutil

import pytest

from ibhostdev import BatchFailed, PKey, Vif
from ibhostdev.errors import DeviceNotFound, NoMechanism, RollbackFailed
from tests.flavours import ONES, guid, mac, vifs
from tests.simulated.trees import pf_folder, put
from tests.testbed import Hca


@pytest.mark.parametrize("text", [None, "many"])
def test_a_number_of_vfs_that_is_lost_on_the_way(two, text):
    """Between making one VF idle and plugging another."""
    host = two.connect()
    host.plug(vifs(two, 1))
    file = pf_folder(two) / "sriov_numvfs"

    def lose(stage, *_):
        if text is None:
            file.unlink(missing_ok=True)
        else:
            put(file, text)

    with pytest.raises(BatchFailed) as caught:
        host.plug([Vif.parse(two.vf(0, 1), mac(1))], progress=lose)
    (failure,) = caught.value.result.failures
    if text is None:
        assert isinstance(failure, DeviceNotFound)
        assert "has 0 VFs now" in str(failure)
    else:
        # They may be there: what cannot be put back is told.
        assert failure.errno == errno.EINVAL
        assert "'many' is no number" in str(failure)
        assert caught.value.result.warnings
    assert two.seen(0)[1].port != guid(1)


# -- mlx4 -------------------------------------------------------------------


@pytest.fixture
def mlx4(bed):
    bed.build(Hca("mlx4", vfs=2))
    return bed


def iov(bed):
    (folder,) = pf_folder(bed).glob("infiniband/*/iov")
    return folder


def slave(bed, index):
    name = f"{bed.pfs[0].rpartition(':')[0]}:00.{index + 1}"
    return iov(bed) / name / "ports/1"


def places(bed, index):
    folder = slave(bed, index) / "pkey_idx"
    return [(folder / name).read_text().strip() for name in "01"]


def test_mlx4_without_its_folder(mlx4):
    shutil.rmtree(iov(mlx4))
    with pytest.raises(NoMechanism, match="no iov folder"):
        mlx4.connect().plug(vifs(mlx4, 1))


@pytest.mark.parametrize("number", ["0x7fff", "0xffff"])
def test_the_default_partition_is_looked_for(mlx4, number):
    """Wherever the port's table has it, as full or limited member; the
    first of several, by number and not by name."""
    table = iov(mlx4) / "ports/1/pkeys"
    for n in range(2):
        put(table / str(n), "0x8001")
    put(table / "default", "0xffff")
    put(table / "3", "garbage")
    for n in (5, 10):
        put(table / str(n), number)
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    assert places(mlx4, 0) == ["none", "5"]


@pytest.mark.parametrize("table", [False, True])
def test_a_port_without_the_default_partition(mlx4, table):
    folder = iov(mlx4) / "ports/1/pkeys"
    if table:
        for file in folder.iterdir():
            put(file, "0x8001")
    else:
        shutil.rmtree(folder)
    mlx4.connect().plug(vifs(mlx4, 1))
    assert places(mlx4, 0) == ["none", "none"]
    assert mlx4.seen(0)[0].port == guid(1)


@pytest.mark.parametrize("text", [None, "0", "-1", "many"])
def test_an_entry_that_is_nobody_s(mlx4, text):
    """0 is the PF's own, which ignores what is written."""
    file = slave(mlx4, 0) / "gid_idx/0"
    if text is None:
        file.unlink()
    else:
        put(file, text)
    host = mlx4.connect()
    before = mlx4.seen(0)
    with pytest.raises(BatchFailed, match="cannot tell") as caught:
        host.plug(vifs(mlx4, 1))
    assert caught.value.device == mlx4.vf(0, 0)
    assert mlx4.seen(0) == before
    host.plug([Vif.parse(mlx4.vf(0, 1), mac(2))])
    assert mlx4.seen(0)[1].port == guid(2)


def test_what_nothing_shows_to_be_agreed_to_is_asked_for_again(mlx4):
    """The driver shows what was asked for, but not what the subnet manager
    said."""
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    agreed = iov(mlx4) / "ports/1/gids/1"
    agreed.unlink()
    mlx4.reset_counts()
    (vf,) = host.plug(vifs(mlx4, 1)).results
    assert vf.verified
    assert mlx4.counts().modify == 1
    assert agreed.exists()


def test_an_entry_that_cannot_be_read(mlx4):
    (iov(mlx4) / "ports/1/admin_guids/1").unlink()
    host = mlx4.connect()
    with pytest.raises(BatchFailed, match="cannot tell") as caught:
        host.plug(vifs(mlx4, 1))
    assert caught.value.device == mlx4.vf(0, 0)
    host.plug([Vif.parse(mlx4.vf(0, 1), mac(2))])
    assert mlx4.seen(0)[1].port == guid(2)


def test_an_entry_that_is_lost_on_the_way(mlx4):
    host = mlx4.connect()
    host.plug(vifs(mlx4, 1))
    file = slave(mlx4, 1) / "gid_idx/0"
    with pytest.raises(BatchFailed) as caught:
        host.plug(
            [Vif.parse(mlx4.vf(0, 1), mac(1))],
            progress=lambda *_: file.unlink(missing_ok=True),
        )
    (failure,) = caught.value.result.failures
    assert failure.device == mlx4.vf(0, 1)
    assert "which GUID entry" in str(failure)
    assert "gid_idx/0" in failure.attribute


@pytest.mark.parametrize("number", "01")
def test_pkeys_that_cannot_be_read(mlx4, number):
    """Nobody knows what to give back."""
    (slave(mlx4, 0) / "pkey_idx" / number).unlink()
    host = mlx4.connect()
    (result,) = host.plug([Vif.parse(mlx4.vf(0, 1), mac(1))]).results
    assert result.before.pkeys == ("0", "none")
    with pytest.raises(BatchFailed) as caught:
        host.plug(vifs(mlx4, 2))
    assert caught.value.result.results[0].before.pkeys is None


def test_a_first_pkey_that_cannot_be_read_back(mlx4):
    """It was taken, and nothing shows it."""
    file = slave(mlx4, 0) / "pkey_idx/0"
    (vif,) = vifs(mlx4, 1)
    (one,) = (
        mlx4.connect()
        .plug(
            [vif._replace(pkey=PKey(1))],
            progress=lambda *_: file.unlink(missing_ok=True),
        )
        .results
    )
    assert (one.error, one.changed, one.verified) == (None, True, False)
    assert one.after.pkey is None


def test_a_p_key_where_the_table_cannot_be_read(mlx4):
    """It is not the subnet manager that has not given it."""
    file = iov(mlx4) / "ports/1/pkeys/2"
    file.unlink()
    file.mkdir()
    host = mlx4.connect(settle_seconds=0.05)
    (vif,) = vifs(mlx4, 1)
    with pytest.raises(BatchFailed) as caught:
        host.plug([vif._replace(pkey=PKey.parse("0x8001"))])
    (failure,) = caught.value.result.failures
    assert failure.errno == errno.EISDIR
    assert failure.device == mlx4.vf(0, 0)
    assert failure.attribute.endswith("iov/ports/1/pkeys/2")
    assert mlx4.seen(0)[0].port != guid(1)


# -- MLNX_OFED's files --------------------------------------------------------


def spoil(file, text):
    if text is None:
        file.unlink(missing_ok=True)
    else:
        put(file, text)


@pytest.mark.parametrize("text", [None, "garbage"])
@pytest.mark.parametrize("name", ["node", "port"])
def test_a_file_that_is_of_no_use(bed, name, text):
    """Of the batch, and of a neighbour that may hold the GUID."""
    bed.build(Hca("mlx5-ofed", vfs=3, netdev=False))
    spoil(pf_folder(bed) / "sriov/0" / name, text)
    host = bed.connect()
    with pytest.raises(BatchFailed, match="cannot tell") as caught:
        host.plug(vifs(bed, 1))
    assert caught.value.device == bed.vf(0, 0)
    host.plug([Vif.parse(bed.vf(0, 1), mac(2))])
    (nowhere,) = host.unplug([Vif.parse(None, mac(9))]).results
    assert not nowhere.verified


@pytest.mark.parametrize("text", [None, "garbage"])
@pytest.mark.parametrize("name", ["node", "port"])
def test_a_file_that_turns_to_no_use(bed, name, text):
    """After it was written: that is not verified."""
    bed.build(Hca("mlx5-ofed", vfs=2, netdev=False))
    file = pf_folder(bed) / "sriov/0" / name
    with pytest.raises(BatchFailed) as caught:
        bed.connect().plug(vifs(bed, 1), progress=lambda *_: spoil(file, text))
    error = caught.value.result.results[0].error
    assert "sriov/0" in error.attribute
    if text is None:
        assert f"sriov/0/{name}" in error.attribute
        assert error.errno == errno.ENOENT
    else:
        assert text in str(error)
    assert error.device == bed.vf(0, 0)


# -- netlink ----------------------------------------------------------------


def test_a_dump_is_asked_for_at_once_the_next_time(bed):
    """A kernel that has answered EMSGSIZE does it again, and asks firmware
    of every VF before."""
    bed.build(Hca("mlx5", vfs=4))
    bed.host.emsgsize_from(4)
    host = bed.connect()
    host.plug(vifs(bed, 1))
    bed.reset_counts()
    host.plug(vifs(bed, 1))
    assert bed.counts().getlink == 1
    host.plug(vifs(bed, 2))
    assert bed.counts().getlink == 3


def test_a_dump_serves_all_pfs(bed):
    """It makes firmware tell of the VFs of each, whoever is asked about:
    one before, one after, and what each is refused at first."""
    bed.build(*[Hca("mlx5", vfs=2)] * 3)
    bed.underestimate()
    host = bed.connect()
    every = [Vif.parse(bed.vf(pf, 0), mac(1 + pf)) for pf in range(3)]
    bed.reset_counts()
    host.plug(every)
    assert bed.counts().getlink <= 3 + 3 + 3
    bed.reset_counts()
    host.plug(every)
    assert bed.counts().getlink == 3
    host.unplug(every)
    assert bed.counts().getlink == 9
    assert [bed.seen(pf)[0].port for pf in range(3)] == [ONES] * 3


def test_a_netdev_that_goes_on_the_way(two):
    """What was written cannot be read back, nor put back."""
    host = two.connect()
    name = host.pfs[0].netdev.name
    with pytest.raises(BatchFailed) as caught:
        host.plug(
            vifs(two, 1, 2),
            progress=lambda *_: two.host.netdev(name, "namespace"),
        )
    for index, one in enumerate(caught.value.result.results):
        assert isinstance(one.error, RollbackFailed)
        assert one.error.device == two.vf(0, index)
        assert "RTM_" in one.error.attribute
    two.host.netdev(name, "")
    host.plug(vifs(two, 1, 2))
    assert [seen.port for seen in two.seen(0)] == [guid(1), guid(2)]
