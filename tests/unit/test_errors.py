# SPDX-License-Identifier: Apache-2.0
"""Errors say what an operator needs, and survive the way to him."""

import errno
import pickle

import pytest

from ibhostdev import BatchFailed, BatchResult, VfResult, VfState, errors


def all_errors():
    found, todo = [], [errors.IbHostdevError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo.extend(kind.__subclasses__())
    # Those that carry the result of a call are made of it.
    return [kind for kind in found if not hasattr(kind, "of")]


@pytest.mark.parametrize("kind", all_errors())
def test_an_error_is_rebuilt_from_its_arguments(kind):
    """As oslo.privsep does it, and pickle."""
    error = kind("refused", "0000:3b:00.2", "policy", errno.EIO, "try again")
    for copy in (kind(*error.args), pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert str(copy) == str(error)
        assert (copy.device, copy.attribute, copy.errno, copy.cure) == (
            "0000:3b:00.2", "policy", errno.EIO, "try again",
        )  # fmt: skip
    assert all(
        part is None or isinstance(part, (str, int)) for part in error.args
    )


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_is_named_and_told(number):
    error = errors.CommandFailed("refused", "0000:3b:00.2", "policy", number)
    assert errno.errorcode[number] in str(error)
    assert "0000:3b:00.2 policy" in str(error)


def test_missing_rights_are_permission_errors():
    error = errors.AccessDenied("refused", "ib0", errno=errno.EPERM)
    assert isinstance(error, PermissionError)
    assert error.errno == errno.EPERM


def test_a_failed_batch_names_its_cause_not_its_consequences():
    cause = errors.CommandFailed(
        "refused", "0000:3b:00.3", "policy", errno.EIO
    )
    rolled_back = errors.RolledBack("rolled back", "0000:3b:00.2")
    result = BatchResult(
        tuple(
            VfResult(None, VfState(), error=error)
            for error in (rolled_back, cause, None)
        )
    )
    assert not result.ok
    assert result.failures == [cause]
    failed = BatchFailed.of(result)
    assert "0000:3b:00.3 policy" in str(failed)
    assert failed.result is result
    copy = pickle.loads(pickle.dumps(failed))
    assert str(copy) == str(failed)
    assert [type(one.error) for one in copy.result.results] == [
        errors.RolledBack,
        errors.CommandFailed,
        type(None),
    ]
