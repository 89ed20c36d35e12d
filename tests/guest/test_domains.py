# SPDX-License-Identifier: Apache-2.0
"""VFs in the definitions of domains, with a real libvirt."""

import pickle

import pytest

from ibhostdev import Host, PciAddress, Vif
from ibhostdev.errors import DeviceNotFound, InvalidInput
from ibhostdev.guest import (
    Attachment,
    Detachment,
    Guests,
    GuestsFailed,
    Use,
    read_domain,
)
from ibhostdev.guest.errors import (
    DomainNotFound,
    GuestError,
    NotAttached,
    WrongDomainState,
)
from tests.flavours import ONES, ZERO, guid, mac
from tests.testbed import Seen

FRESH = Seen(ZERO, ZERO, "down")
IDLE = Seen(ONES, ONES, "down")


def plugged(number):
    return Seen(guid(number), guid(number), "follow")


def vif(bed, index, number, pf=0):
    return Vif.parse(bed.vf(pf, index), mac(number))


def vf(bed, index, pf=0):
    return PciAddress(bed.vf(pf, index))


def definition(conn, name):
    return read_domain(conn.lookupByName(name).XMLDesc())


@pytest.fixture
def guests(host, conn):
    with Guests(host, conn) as guests:
        yield guests


def test_attach_plugs_and_defines_many_on_many(bed, conn, define, guests):
    define("one", "two")
    wanted = [
        Attachment("one", vif(bed, 0, 1)),
        Attachment("two", vif(bed, 0, 2, pf=1)),
        Attachment("one", vif(bed, 1, 3)),
    ]
    result = guests.attach(wanted, config=True)
    assert [(r.domain, r.pci, r.changed) for r in result.results] == [
        (one.domain, one.vif.pci, True) for one in wanted
    ]
    assert bed.seen(0)[:3] == [plugged(1), plugged(3), FRESH]
    assert bed.seen(1)[:2] == [plugged(2), FRESH]
    one, two = definition(conn, "one"), definition(conn, "two")
    assert set(one.hostdevs) == {bed.vf(0, 0), bed.vf(0, 1)}
    assert set(two.hostdevs) == {bed.vf(1, 0)}
    assert one.vifs == (wanted[0].vif, wanted[2].vif)
    assert two.vifs == (wanted[1].vif,)


def test_a_stopped_domain_is_meant_by_its_definition(
    bed, conn, define, guests
):
    define("one")
    guests.attach([Attachment("one", vif(bed, 0, 1))])
    assert set(definition(conn, "one").hostdevs) == {bed.vf(0, 0)}


def test_attach_again_changes_nothing(bed, conn, define, guests):
    define("one")
    guests.attach([Attachment("one", vif(bed, 0, 1))])
    before = conn.lookupByName("one").XMLDesc()
    bed.reset_counts()
    (result,) = guests.attach([Attachment("one", vif(bed, 0, 1))]).results
    assert not result.changed
    assert bed.counts().modify == 0
    assert conn.lookupByName("one").XMLDesc() == before


def test_detach_makes_idle_and_leaves_the_rest(bed, conn, define, guests):
    define("one", "two")
    guests.attach(
        [
            Attachment("one", vif(bed, 0, 1)),
            Attachment("one", vif(bed, 1, 2)),
            Attachment("two", vif(bed, 2, 3)),
        ]
    )
    result = guests.detach(
        [Detachment("two", vf(bed, 2)), Detachment("one", vf(bed, 0))]
    )
    assert [str(r.guid) for r in result.results] == [guid(3), guid(1)]
    assert bed.seen(0) == [IDLE, plugged(2), IDLE, FRESH]
    one = definition(conn, "one")
    assert set(one.hostdevs) == {bed.vf(0, 1)}
    assert one.vifs == (vif(bed, 1, 2),)
    two = conn.lookupByName("two").XMLDesc()
    assert "ibhostdev" not in two
    assert "hostdev" not in two


def test_detach_finishes_what_was_cut_off(bed, conn, define, guests):
    """The device is gone from the definition, the identity is not."""
    define("one")
    guests.attach([Attachment("one", vif(bed, 0, 1))])
    domain = conn.lookupByName("one")
    text = domain.XMLDesc()
    start, end = text.index("<hostdev"), text.index("</hostdev>")
    conn.defineXML(text[:start] + text[end + len("</hostdev>") :])
    (result,) = guests.detach([Detachment("one", vf(bed, 0))]).results
    assert str(result.guid) == guid(1)
    assert bed.seen(0)[0] == IDLE
    assert definition(conn, "one").vifs == ()


def test_who_has_what_is_known(bed, define, guests):
    define("one", "two", "three")
    guests.attach(
        [Attachment("one", vif(bed, 0, 1)), Attachment("two", vif(bed, 1, 2))]
    )
    assert guests.uses() == {
        bed.vf(0, 0): Use("one", running=False),
        bed.vf(0, 1): Use("two", running=False),
    }


def test_a_vf_of_two_definitions_is_told(bed, define, guests):
    define("one", "two")
    guests.attach([Attachment("one", vif(bed, 0, 1))])
    result = guests.attach([Attachment("two", vif(bed, 0, 1))])
    (warning,) = result.warnings
    assert "one" in warning
    assert bed.vf(0, 0) in warning


def untouched(bed, conn, names):
    assert bed.seen(0) == [FRESH] * 4
    for name in names:
        assert definition(conn, name).hostdevs == {}


def test_a_domain_that_is_not_there(bed, conn, define, guests):
    define("one")
    with pytest.raises(DomainNotFound, match="'two'") as caught:
        guests.attach(
            [
                Attachment("one", vif(bed, 0, 1)),
                Attachment("two", vif(bed, 1, 2)),
            ]
        )
    assert caught.value.domain == "two"
    untouched(bed, conn, ["one"])


def test_a_stopped_domain_has_nothing_live(bed, conn, define, guests):
    define("one")
    with pytest.raises(WrongDomainState, match="one does not run"):
        guests.attach([Attachment("one", vif(bed, 0, 1))], live=True)
    untouched(bed, conn, ["one"])


def test_a_vf_named_twice(bed, conn, define, guests):
    define("one", "two")
    with pytest.raises(InvalidInput, match="twice"):
        guests.attach(
            [
                Attachment("one", vif(bed, 0, 1)),
                Attachment("two", vif(bed, 0, 2)),
            ]
        )
    untouched(bed, conn, ["one", "two"])


def test_a_pf_is_never_handed_out(bed, conn, define, guests):
    """libvirt would take it from the fabric of every guest."""
    define("one")
    pf = Vif.parse(bed.pfs[0], mac(1))
    with pytest.raises(DeviceNotFound):
        guests.attach([Attachment("one", pf)])
    untouched(bed, conn, ["one"])


def test_a_vf_that_the_domain_does_not_have(bed, define, guests):
    define("one")
    bed.seed(0, 0, guid(1), guid(1), "follow")
    with pytest.raises(NotAttached, match="one") as caught:
        guests.detach([Detachment("one", vf(bed, 0))])
    assert caught.value.device == bed.vf(0, 0)
    assert bed.seen(0)[0] == plugged(1)


def test_a_failing_plug_attaches_nothing(bed, conn, define, guests):
    define("one", "two")
    bed.fail(bed.vf(0, 1), 5)
    with pytest.raises(GuestsFailed) as caught:
        guests.attach(
            [
                Attachment("one", vif(bed, 0, 1)),
                Attachment("two", vif(bed, 1, 2)),
            ]
        )
    assert caught.value.device == bed.vf(0, 1)
    assert not any(one.changed for one in caught.value.result.results)
    assert bed.seen(0)[0].policy == "down"
    assert definition(conn, "one").hostdevs == {}
    assert definition(conn, "two").hostdevs == {}


def test_a_vf_that_cannot_be_made_idle_is_told(bed, conn, define, guests):
    define("one")
    guests.attach(
        [Attachment("one", vif(bed, 0, 1)), Attachment("one", vif(bed, 1, 2))]
    )
    bed.fail(bed.vf(0, 0), 5)
    with pytest.raises(GuestsFailed) as caught:
        guests.detach(
            [Detachment("one", vf(bed, 0)), Detachment("one", vf(bed, 1))]
        )
    for failed in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        first, second = failed.result.results
        assert first.changed
        assert first.error is not None
        assert str(first.error) in str(failed)
        assert second.error is None
    assert bed.seen(0)[1] == IDLE


def test_what_libvirt_refuses_is_idle_again(bed, conn, define, guests):
    """This libvirt's host has no IOMMU; the guest runs."""
    define("one")
    conn.lookupByName("one").create()
    with pytest.raises(GuestsFailed) as caught:
        guests.attach([Attachment("one", vif(bed, 0, 1))], live=True)
    (error,) = caught.value.result.failures
    assert isinstance(error, GuestError)
    assert error.domain == "one"
    assert error.device == bed.vf(0, 0)
    assert error.cure
    assert bed.seen(0)[0] == IDLE
    assert bed.identity(bed.vf(0, 0)) in (ZERO, ONES)
    assert definition(conn, "one").vifs == ()


def test_a_running_domain_may_get_a_definition_only(bed, conn, define, guests):
    define("one")
    domain = conn.lookupByName("one")
    domain.create()
    guests.attach([Attachment("one", vif(bed, 0, 1))], config=True)
    assert read_domain(domain.XMLDesc()).hostdevs == {}
    domain.destroy()
    assert set(definition(conn, "one").hostdevs) == {bed.vf(0, 0)}


def test_a_connection_of_our_own_is_closed(uri, host: Host, define):
    define("one")
    with Guests(host, uri) as guests:
        assert guests.uses() == {}
