# SPDX-License-Identifier: Apache-2.0
"""Results as one block, on their way between processes: what comes back is
what was sent, and what is none is refused."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibhostdev import BatchResult, Guid, PKey, Policy, VfResult, VfState
from ibhostdev._native.results import Results, packed
from ibhostdev.errors import CommandFailed
from ibhostdev.inventory import MECHANISMS
from ibhostdev.pci import PciAddress

GUIDS = st.none() | st.builds(Guid, st.integers(0, 2**64 - 1))
STATES = st.builds(
    VfState,
    GUIDS,
    GUIDS,
    st.none() | st.sampled_from(Policy),
    st.none() | st.tuples(*[st.sampled_from(["none", "0", "126"])] * 2),
    st.booleans(),
    st.integers(0, 0xFFFF).map(PKey.of_entry),
)
RESULTS = st.builds(
    VfResult,
    st.none()
    | st.sampled_from(
        [PciAddress("0000:3b:00.2"), PciAddress("10000:e1:1f.7")]
    ),
    STATES,
    st.none() | STATES,
    st.none() | STATES,
    st.none() | st.sampled_from(MECHANISMS),
    st.booleans(),
    st.booleans(),
    st.none() | st.builds(CommandFailed, st.text()),
)
DONE = VfResult(PciAddress("0000:3b:00.2"), VfState(), changed=True)
FAILED = DONE._replace(error=CommandFailed("refused"))
SIZE = len(packed([DONE]).records)


@given(st.lists(RESULTS, max_size=3))
def test_what_comes_back_is_what_was_sent(results):
    sent = packed(results)
    got = Results(sent.records, sent.errors)
    assert list(got) == results
    assert [got[i] for i in range(len(got))] == results
    assert got.errors == [one.error for one in results if one.error]


@given(st.binary(max_size=3 * SIZE), st.integers(0, 3))
def test_of_garbage_values_are_made_or_it_is_refused(data, errors):
    """Values that nobody has sent, but values."""
    try:
        got = Results(data, [CommandFailed("refused")] * errors)
    except ValueError:
        return
    assert all(isinstance(one, VfResult) for one in got)
    assert repr(list(got))


@given(st.integers(0, SIZE - 1), st.integers(0, 255))
def test_of_a_byte_that_was_changed(at, byte):
    data = bytearray(packed([FAILED]).records)
    data[at] = byte
    try:
        got = Results(bytes(data), [FAILED.error])
    except ValueError:
        return
    assert repr(got[0])


@pytest.mark.parametrize(
    ("results", "cut", "errors"),
    [([DONE], 1, 0), ([DONE], 0, 1), ([FAILED], 0, 0), ([FAILED] * 2, 0, 1)],
)
def test_more_or_less_than_was_told_of(results, cut, errors):
    data = packed(results).records
    with pytest.raises(ValueError, match=r"record|errors"):
        Results(data[: len(data) - cut], [FAILED.error] * errors)


def test_there_is_nothing_beyond_the_last_one():
    for index in (-1, 1):
        with pytest.raises(IndexError):
            packed([DONE])[index]


def test_a_batch_s_result_is_a_value():
    made = packed([DONE, FAILED])
    result = BatchResult(made, ["mind the gap"], made.errors)
    same = BatchResult((DONE, FAILED), ("mind the gap",))
    assert result == same
    assert result != BatchResult((DONE, FAILED))
    assert (result.ok, result.failures) == (False, [FAILED.error])
    done = BatchResult(packed([DONE]), ["mind the gap"])
    assert done.ok
    assert pickle.loads(pickle.dumps(done)) == done
