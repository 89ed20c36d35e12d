# SPDX-License-Identifier: Apache-2.0
"""P_Keys as operators, tables of ports and subnet managers write them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibhostdev import Membership, PKey
from ibhostdev.errors import InvalidInput
from ibhostdev.pkey import DEFAULT

FULL, LIMITED, BOTH = Membership


@pytest.mark.parametrize(
    ("text", "number", "membership"),
    [
        ("0x8001", 1, FULL),
        ("0x1", 1, LIMITED),
        ("0x0001", 1, LIMITED),
        ("1", 1, LIMITED),
        ("32769", 1, FULL),
        ("1:full", 1, FULL),
        (" 0x1:FULL\n", 1, FULL),
        ("0X8001:full", 1, FULL),
        ("0x8001:both", 1, BOTH),
        ("1:limited", 1, LIMITED),
        ("100:full", 100, FULL),
        ("0xffff", 0x7FFF, FULL),
        ("0x7fff", 0x7FFF, LIMITED),
    ],
)
def test_the_written_forms(text, number, membership):
    assert PKey.parse(text) == PKey(number, membership)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "reserved"),
        ("0x0000", "reserved"),
        ("0x8000", "reserved"),
        ("0:full", "reserved"),
        ("0x8000:both", "reserved"),
        ("65536", "16 bits"),
        ("99999", "16 bits"),
        ("0x8001:limited", "full member's bit"),
        ("1:some", "membership"),
        ("010", "not a P_Key"),
        ("-1", "not a P_Key"),
        ("0x", "not a P_Key"),
        ("0x10001", "not a P_Key"),
        ("8001h", "not a P_Key"),
        ("1:", "not a P_Key"),
        ("", "not a P_Key"),
        ("none", "not a P_Key"),
        ("١", "not a P_Key"),
    ],
)
def test_what_is_refused_and_why(text, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        PKey.parse(text)
    assert caught.value.attribute == "pkey"
    assert "0x8001" in caught.value.cure


@pytest.mark.parametrize("number", [0, -1, 0x8000, 0x8001])
def test_a_number_of_no_partition(number):
    with pytest.raises(InvalidInput):
        PKey(number)


@given(st.integers(1, 0x7FFF), st.sampled_from(list(Membership)))
def test_what_is_written_is_read_again(number, membership):
    pkey = PKey(number, membership)
    assert PKey.parse(str(pkey)) == pkey
    assert pickle.loads(pickle.dumps(pkey)) == pkey
    assert {value & 0x7FFF for value in pkey.values} == {number}
    tops = {value >> 15 for value in pkey.values}
    assert tops == {FULL: {1}, LIMITED: {0}, BOTH: {0, 1}}[membership]


def test_the_default_partition():
    assert PKey.parse("0xffff") == DEFAULT
    assert str(DEFAULT) == "0xffff"


@given(st.integers(0, 0xFFFF))
def test_an_entry_of_a_table(value):
    pkey = PKey.of_entry(value)
    if value in (0, 0x8000):
        assert pkey is None
    else:
        assert pkey.values == (value,)
