"""Errors: the errno of each, and copies of errors that are kept without what they refer to."""

from __future__ import annotations

import errno
import os

import pytest

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    ProcessLimit,
    StoreError,
    StoreUnavailable,
    detach,
    errno_of,
    renewed,
    starting_process,
)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (NotFound("no such path"), errno.ENOENT),
        (ObjectMissing("no such object"), errno.ENOENT),
        (AccessDenied("refused"), errno.EACCES),
        (CredentialsRejected("expired"), errno.EACCES),
        (ObjectChanged("replaced"), errno.ESTALE),
        (StoreUnavailable("no answer"), errno.EIO),
        (NotADirectoryError(), errno.ENOTDIR),
        (IsADirectoryError(), errno.EISDIR),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), errno.ENOENT),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError("without a number"), errno.EIO),
        (ValueError("a bug"), errno.EIO),
    ],
)
def test_each_error_has_an_errno(error, number):
    assert errno_of(error) == number


def raised(error: Exception) -> Exception:
    """Return the error with a traceback, a cause and a context."""
    with pytest.raises(type(error)) as caught:
        raise_from_another(error)
    return caught.value


def raise_from_another(error: Exception) -> None:
    try:
        {}["the cause"]
    except KeyError as cause:
        raise error from cause


def test_a_kept_error_loses_its_traceback_its_cause_and_its_context():
    kept = detach(raised(StoreError("gone", url="s3://b/k", hint="try again")))
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
    assert (str(kept), kept.url, kept.hint) == ("gone", "s3://b/k", "try again")


def test_an_error_that_is_a_bug_keeps_its_traceback():
    bug = raised(ValueError("a bug"))
    assert detach(bug) is bug
    assert bug.__traceback__ is not None
    assert isinstance(bug.__cause__, KeyError)
    assert renewed(bug) is bug


def test_a_renewed_error_is_equal_and_gets_its_own_traceback():
    kept = AccessDenied("refused", url="s3://b/k", hint="check the licence")
    other = raised(renewed(kept))
    assert other is not kept
    assert type(other) is AccessDenied
    assert (str(other), other.url, other.hint) == ("refused", "s3://b/k", "check the licence")
    assert kept.__traceback__ is None


def test_a_process_that_cannot_be_started_is_a_limit():
    with pytest.raises(ProcessLimit) as caught, starting_process():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    assert caught.value.errno == errno.EAGAIN
    assert caught.value.strerror == os.strerror(errno.EAGAIN)
    assert ProcessLimit("no more threads").strerror == "no more threads"


def test_another_failure_to_start_a_process_is_not_a_limit():
    with pytest.raises(FileNotFoundError), starting_process():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "weed")
