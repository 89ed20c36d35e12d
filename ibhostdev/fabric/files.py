# SPDX-License-Identifier: Apache-2.0
"""Files that others read while they are written."""

import os
import stat
import tempfile
from contextlib import suppress

from ibhostdev.errors import AccessDenied, CommandFailed, IbHostdevError


def replace(path: str, text: str, cure: str) -> None:
    """Have a file say this; nobody ever sees a part of it. Its owner and mode
    stay what they are; a new one is readable by all. A link is replaced and
    not followed: the folder may be somebody else's, who could have it lead
    anywhere.

    :raises AccessDenied, CommandFailed: if it cannot be written; it is as it
        was
    """
    name = None
    try:
        # Hidden, and of no ending that anybody looks for.
        file, name = tempfile.mkstemp(
            prefix=".ibhostdev-", dir=os.path.dirname(path) or "."
        )
        with open(
            file, "w", encoding="utf-8", errors="surrogateescape"
        ) as stream:
            stream.write(text)
            stream.flush()
            _like(file, path)
            os.fsync(file)
        os.replace(name, path)
    except OSError as error:
        if name is not None:
            with suppress(OSError):
                os.unlink(name)
        raise failed(error, "cannot be written", path, cure) from error


def _like(file: int, path: str) -> None:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        there = None
    if there is None or not stat.S_ISREG(there.st_mode):
        os.fchmod(file, 0o644)
        return
    own = os.fstat(file)
    if (own.st_uid, own.st_gid) != (there.st_uid, there.st_gid):
        os.fchown(file, there.st_uid, there.st_gid)
    os.fchmod(file, there.st_mode & 0o777)


def failed(
    error: OSError, what: str, path: str, cure: str | None = None
) -> IbHostdevError:
    denied = isinstance(error, PermissionError)
    return (AccessDenied if denied else CommandFailed)(
        what, path, "file", error.errno, cure
    )
