# SPDX-License-Identifier: Apache-2.0
"""UFM's REST interface for P_Keys.

Paths and bodies are those that ib-kubernetes sends (pkg/sm/plugins/ufm/
ufm.go) and NVIDIA's "UFM Enterprise REST API Guide", PKey GUIDs, has.
"""

import http.client
import json
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ibhostdev.errors import (
    AccessDenied,
    CommandFailed,
    IbHostdevError,
    InvalidInput,
    NotRunning,
    TimedOut,
)
from ibhostdev.fabric.members import Due, Member, ports
from ibhostdev.guid import Guid
from ibhostdev.pkey import DEFAULT, Membership

GUIDS_A_REQUEST = 500
_ANSWER = 1 << 26  # bytes
_TRIES = 4
_SECONDS = 30.0
_PAUSE = 0.5
# A moment later it may be well.
_PASSING = (429, 500, 502, 503, 504)


def wanted(members: Sequence[Member]) -> dict[int, dict[Guid, Due]]:
    """
    :raises InvalidInput: for what UFM has no words for: a member that is
        both, and the default partition, which it manages itself
    """
    for member in members:
        pkey = member.pkey
        if pkey is None:
            continue
        if pkey.membership is Membership.BOTH:
            raise _both(member.place, "make it full")
        if pkey.number == DEFAULT.number:
            raise InvalidInput(
                "UFM lets nobody put a GUID into the default partition",
                member.place,
                "pkey",
                cure="leave its pkey out: everybody is in that",
            )
    found = ports(members)
    for number, there in found.items():
        for guid, due in there.items():
            if due.membership is Membership.BOTH:
                raise _both(
                    f"port {guid}",
                    f"make all of its VFs that are in 0x{number:04x} full",
                )
    return found


def _both(who: str, cure: str) -> InvalidInput:
    return InvalidInput(
        "UFM has full and limited members, none that are both",
        who,
        "pkey",
        cure=cure,
    )


def addition(number: int, due: Due, guids: Iterable[Guid]) -> dict[str, Any]:
    """What is posted to have GUIDs put into a partition."""
    return {
        "pkey": f"0x{number:04x}",
        "index0": due.index0,
        "ip_over_ib": True,
        "membership": str(due.membership),
        "guids": [f"{guid:016x}" for guid in guids],
    }


def _additions(
    number: int, there: Mapping[Guid, Due]
) -> Iterator[dict[str, Any]]:
    kinds: dict[Due, list[Guid]] = {}
    for guid, due in there.items():
        kinds.setdefault(due, []).append(guid)
    for due, guids in sorted(kinds.items()):
        for some in _chunks(guids):
            yield addition(number, due, some)


def as_plain(members: Sequence[Member]) -> list[dict[str, Any]]:
    """All that would be posted to a UFM that knows none of them."""
    return [
        body
        for number, there in wanted(members).items()
        for body in _additions(number, there)
    ]


# -- what differs ---------------------------------------------------------


class Request(NamedTuple):
    method: str
    path: str
    body: Mapping[str, Any]


class Entry(NamedTuple):
    """How a GUID is in a partition, as UFM tells; None is not told."""

    membership: str | None
    index0: bool | None


Known = dict[int, dict[Guid, Entry]]
"""What UFM has, by partition."""


def difference(
    members: Sequence[Member], known: Known, own: Iterable[int] = ()
) -> list[Request]:
    """What has to be sent for UFM to know who is in which partition.

    From the partitions ``own`` everybody is taken off who is not to be in
    them; in all others members are but added, and so may be in more than one.
    First they are taken off, for index 0 is there once.
    """
    due = wanted(members)
    owned = set(own)
    requests: list[Request] = []
    for number, there in sorted(known.items()):
        if number == DEFAULT.number:
            continue
        ours = due.get(number, {})
        gone = []
        for guid, entry in sorted(there.items()):
            if guid not in ours:
                leaves = number in owned
            else:  # UFM is told of a membership when a GUID is added
                leaves = entry.membership not in (None, ours[guid].membership)
            if leaves:
                gone.append(guid)
        for some in _chunks(gone):
            body: dict[str, Any] = {
                "pkey": f"0x{number:04x}",
                "guids": [f"{guid:016x}" for guid in some],
            }
            path = "/actions/remove_guids_from_pkey"
            requests.append(Request("POST", path, body))
    for number, ours in due.items():
        there = known.get(number, {})
        new = {
            guid: one
            for guid, one in ours.items()
            if guid not in there
            or there[guid].membership not in (None, one.membership)
            # The port of a PF may have its own first P_Key there.
            or (one.index0 and there[guid].index0 is False)
        }
        for body in _additions(number, new):
            requests.append(Request("POST", "/resources/pkeys", body))
    return requests


def _chunks(guids: Sequence[Guid]) -> Iterator[Sequence[Guid]]:
    for at in range(0, len(guids), GUIDS_A_REQUEST):
        yield guids[at : at + GUIDS_A_REQUEST]


def known(answer: object) -> Known:
    """From what UFM answers when it is asked for all partitions.

    :raises TypeError, ValueError, LookupError: if it is something else
    """
    if not isinstance(answer, dict):
        raise TypeError("no mapping")
    found: Known = {}
    for pkey, told in answer.items():
        ports = found.setdefault(int(pkey, 16) & 0x7FFF, {})
        for one in told.get("guids", ()):
            guid = Guid.parse(one["guid"])
            ports[guid] = Entry(one.get("membership"), one.get("index0"))
    return found


# -- the wire -------------------------------------------------------------


@dataclass(frozen=True)
class Credentials:
    """What goes into the header, and the root of the paths that take it:
    those with a token have another one than those with a password."""

    header: str
    root: str


def credentials(name: str) -> Credentials:
    """From a file with ``token = …``, or ``username = …`` and ``password =
    …``, a line each, that is root's or who runs this one's, and that nobody
    else may read.

    :raises InvalidInput: if it has something else, or others may read it or
        could have written it
    """
    try:
        # What is no file would be waited for.
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(file, encoding="utf-8") as stream:
            there = os.fstat(file)
            lines = stream.read(1 << 16).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            "cannot be read",
            name,
            "file",
            getattr(error, "errno", None),
            "write a file with 'token = …', or 'username = …' and "
            "'password = …', and name it by --credentials if it is another",
        ) from None
    if there.st_uid not in (0, os.geteuid()):
        raise InvalidInput(
            "is somebody else's: whoever owns it says who we are",
            name,
            "file",
            cure=f"chown root {name}",
        )
    if there.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput(
            "may be read by others than its owner",
            name,
            "file",
            cure=f"chmod 600 {name}",
        )
    given = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            given[key.strip()] = value.strip()
    token = given.get("token")
    if token and not (token.isascii() and token.isprintable()):
        raise InvalidInput(
            "has a token with characters that no header takes",
            name,
            "file",
            cure="write it as UFM has shown it",
        )
    if token:
        return Credentials(f"Basic {token}", "/ufmRestV3")
    if given.get("username") and given.get("password"):
        from base64 import b64encode

        word = f"{given['username']}:{given['password']}".encode()
        return Credentials(f"Basic {b64encode(word).decode()}", "/ufmRest")
    raise InvalidInput(
        "has neither a token nor a username and a password",
        name,
        "file",
        cure="write 'token = …' into it",
    )


class Ufm:
    """One at a URL. Each call is tried several times, with longer and longer
    pauses; repeated ones do no harm."""

    def __init__(
        self,
        url: str,
        who: Credentials,
        ca_file: str | None = None,
        seconds: float = _SECONDS,
        pause: float = _PAUSE,
    ) -> None:
        try:
            parts = urlsplit(url)
            # http.client takes the end of an IPv6 address for a missing port.
            self._port = parts.port or (80 if parts.scheme == "http" else 443)
            (parts.hostname or "").encode("idna")  # as it is looked up
        except ValueError:
            raise _bad_url(url) from None
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if (
            parts.scheme not in ("https", "http")
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.username
            or parts.query
        ):
            raise _bad_url(url)
        if parts.scheme == "http" and not local:
            raise InvalidInput(
                "would have the password in the clear",
                url,
                "--ufm",
                cure="write https://",
            )
        self._host, self._url, self._who = parts.hostname, url, who
        self._seconds, self._pause = seconds, pause
        self._context = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(
                    "has no certificates", ca_file, "--ca-file", error.errno
                ) from None

    def known(self) -> Known:
        """All partitions.

        :raises AccessDenied: if UFM does not take who we are
        :raises NotRunning, TimedOut, CommandFailed: if it cannot be asked
        """
        path = "/resources/pkeys/?guids_data=true"
        return known_or_raise(self._call("GET", path, None), self._url)

    def send(self, request: Request) -> None:
        """Raises what known() raises."""
        self._call(request.method, request.path, request.body)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> object:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._once(method, path, body)
            except (NotRunning, TimedOut, _Passing):
                if attempt == _TRIES:
                    raise
                time.sleep(self._pause * 2 ** (attempt - 1))
        raise AssertionError("not reached")

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> object:
        where = f"{method} {self._who.root}{path}"
        connection: http.client.HTTPConnection
        if self._context is None:
            connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self._seconds
            )
        else:
            connection = http.client.HTTPSConnection(
                self._host,
                self._port,
                timeout=self._seconds,
                context=self._context,
            )
        headers = {
            "Authorization": self._who.header,
            "Accept": "application/json",
        }
        text = None
        if body is not None:
            text = json.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            with _limited(connection, self._seconds):
                path = self._who.root + path
                connection.request(method, path, text, headers)
                with connection.getresponse() as answer:
                    data = answer.read(_ANSWER + 1)
                    if answer.length and len(data) <= _ANSWER:
                        raise http.client.IncompleteRead(data, answer.length)
        except ssl.SSLCertVerificationError as error:
            raise CommandFailed(
                f"has a certificate that is not to be trusted "
                f"({error.verify_message})",
                self._url,
                where,
                cure="give the certificate of who signed it by --ca-file",
            ) from error
        except TimeoutError as error:
            raise TimedOut(
                f"did not answer within {self._seconds:g} s", self._url, where
            ) from error
        except (http.client.HTTPException, ssl.SSLError) as error:
            raise _Passing(
                f"did not answer in full: {error!r}", self._url, where
            ) from error
        except socket.gaierror as error:  # its numbers are no errnos
            raise NotRunning(
                f"cannot be found: {error.strerror}", self._url, where
            ) from error
        except OSError as error:
            raise NotRunning(
                "cannot be reached", self._url, where, error.errno
            ) from error
        finally:
            connection.close()
        return self._answer(answer.status, data, where)

    def _answer(self, status: int, data: bytes, where: str) -> object:
        said = data[:300].decode(errors="replace").strip()
        if status in (401, 403):
            raise AccessDenied(
                f"does not take who we are ({status})",
                self._url,
                where,
                cure="see the file of --credentials; the user has to be one "
                "who may change partitions",
            )
        if status in _PASSING:
            raise _Passing(f"answered {status}: {said}", self._url, where)
        if not 200 <= status < 300:
            raise CommandFailed(f"answered {status}: {said}", self._url, where)
        if len(data) > _ANSWER:
            raise CommandFailed("answered too much", self._url, where)
        if not where.startswith("GET"):
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            # With a wrong token it shows a page to log in.
            raise _Passing(
                f"did not answer in JSON: {said}", self._url, where
            ) from error


@contextmanager
def _limited(
    connection: http.client.HTTPConnection, seconds: float
) -> Iterator[None]:
    """One that is connected has so long, also if it says a little now and
    then: the time of a socket is for each reading anew.

    :raises TimeoutError: if it was not done by then
    """
    sock = connection.sock
    late = threading.Event()

    def end() -> None:
        late.set()
        # Not TLS's own, which would have a word with the other side.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():  # what has no length seems to be whole
        raise TimeoutError


class _Passing(CommandFailed):
    """What a moment later may be well."""


def known_or_raise(answer: object, url: str) -> Known:
    try:
        return known(answer)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if isinstance(error, IbHostdevError):
            error.device = url
        raise CommandFailed(
            f"told of partitions in another form than is known: {error}", url
        ) from error


def _bad_url(url: str) -> InvalidInput:
    return InvalidInput(
        f"{url!r} is not the address of a UFM",
        attribute="--ufm",
        cure="write as in https://ufm.example.net",
    )
