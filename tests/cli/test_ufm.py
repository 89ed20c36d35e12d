# SPDX-License-Identifier: Apache-2.0
"""UFM, by a server that stands in for it.

It was written from the requests that ib-kubernetes sends (pkg/sm/plugins/
ufm/ufm.go) and the answers that NVIDIA's guide to the interface shows: a real
UFM has not been tried. What is sent to it is checked for its form.
"""

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ibhostdev import Guid
from ibhostdev.errors import (
    CommandFailed,
    InvalidInput,
    NotRunning,
    TimedOut,
)
from ibhostdev.fabric import ufm
from ibhostdev.fabric.members import Due, Member
from ibhostdev.inventory import Family
from ibhostdev.pci import PciAddress
from ibhostdev.pkey import Membership, PKey
from tests.flavours import mac, vifs

GUIDS = [f"fa163e{n:010x}" for n in range(10)]
FULL = Due(Membership.FULL, True)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # they are waited for

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.partitions = {"0x7fff": {"partition": "management", "guids": []}}
        self.requests = []
        self.troubles = []  # taken one by one, before anything is done
        self.wrong = []
        self.over = threading.Event()
        self.header = "Basic " + base64.b64encode(b"admin:s3:cret").decode()
        self.root = "/ufmRest"

    def members(self, pkey):
        return {
            one["guid"]: one["membership"]
            for one in self.partitions.get(pkey, {}).get("guids", [])
        }


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.begin() and self.is_path("/resources/pkeys/?guids_data=true"):
            self.answer(200, json.dumps(self.server.partitions).encode())

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        if not self.begin():
            return
        self.check(self.headers["Content-Type"] == "application/json")
        self.check(re.fullmatch("0x[0-9a-f]{4}", body["pkey"]))
        self.check(0 < int(body["pkey"], 16) < 0x7FFF)
        for guid in body["guids"]:
            self.check(re.fullmatch("[0-9a-f]{16}", guid))
        self.check(0 < len(body["guids"]) <= ufm.GUIDS_A_REQUEST)
        key = hex(int(body["pkey"], 16))
        if self.path.endswith("/actions/remove_guids_from_pkey"):
            self.check(set(body) == {"pkey", "guids"})
            there = self.server.partitions[key]
            there["guids"] = [
                one
                for one in there["guids"]
                if one["guid"] not in body["guids"]
            ]
        elif self.is_path("/resources/pkeys"):
            self.check(
                set(body)
                == {"pkey", "guids", "index0", "ip_over_ib", "membership"}
            )
            self.check(body["membership"] in ("full", "limited"))
            there = self.server.partitions.setdefault(key, {"guids": []})
            there["guids"] += [
                {
                    "guid": guid,
                    "membership": body["membership"],
                    "index0": body["index0"],
                }
                for guid in body["guids"]
            ]
        self.server.requests.append((self.path, body))
        self.answer(200, b"")

    def begin(self):
        if self.headers["Authorization"] != self.server.header:
            self.answer(401, b"<html>log in</html>")
            return False
        if not self.server.troubles:
            return True
        trouble = self.server.troubles.pop(0)
        if trouble == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"0x1": {')
        elif trouble == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif trouble == "hang":
            self.server.over.wait(600)
        elif trouble == "drip":
            # Each reading takes far less than the time that there is.
            self.send_response(200)
            self.end_headers()
            while not self.server.over.wait(0.1):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
        elif trouble == "page":
            self.answer(200, b"<html>log in</html>")
        elif isinstance(trouble, tuple):
            self.answer(*trouble)
        else:
            self.answer(trouble, b"trouble")
        return False

    def is_path(self, path):
        return self.check(self.path == self.server.root + path)

    def check(self, what):
        if not what:
            self.server.wrong.append((self.command, self.path))
        return True

    def answer(self, status, body):
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()
    assert server.wrong == []


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "ufm"
    file.write_text("# of root\nusername = admin\npassword = s3:cret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def there(url, secret):
    """One that is not waited long for."""
    who = ufm.credentials(str(secret))
    return ufm.Ufm(url, who, seconds=1, pause=0.01)


@pytest.fixture
def apply(host, run, url, secret, tmp_path):
    """fabric apply of VIFs with these P_Keys."""

    def apply(pkeys, *more):
        file = tmp_path / "vifs.yaml"
        file.write_text(
            "".join(
                f"- {{mac: '{mac(n)}', pkey: '{pkey}'}}\n"
                for n, pkey in pkeys.items()
            )
            or "[]"
        )
        return run(
            *("fabric", "apply", "--ufm", url, "--file", str(file)),
            *("--credentials", str(secret), *more),
        )

    return apply


def test_only_the_difference_is_sent(host, server, apply):
    host.connect().plug(vifs(host, 1, 2, 3))
    wanted = {1: "1:full", 2: "0x8001", 3: "2:limited"}
    done = apply(wanted, "--dry-run")
    assert done.code == 0
    assert [one["body"]["pkey"] for one in done.json] == ["0x0001", "0x0002"]
    assert server.requests == []
    done = apply(wanted)
    assert (done.code, done.err) == (0, "")
    assert "2 requests; 3 GUIDs" in done.out
    assert server.members("0x1") == {GUIDS[1]: "full", GUIDS[2]: "full"}
    assert server.members("0x2") == {GUIDS[3]: "limited"}
    server.requests.clear()
    assert "right already" in apply(wanted).out
    assert server.requests == []
    apply({**wanted, 3: "2:full"})
    assert server.members("0x2") == {GUIDS[3]: "full"}
    assert [path.rpartition("/")[2] for path, _ in server.requests] == [
        "remove_guids_from_pkey",
        "pkeys",
    ]


def test_who_is_not_named_stays_but_in_our_own(host, server, apply):
    host.connect().plug(vifs(host, 1, 2))
    for key in ("0x1", "0x9"):
        server.partitions[key] = {
            "guids": [
                {"guid": GUIDS[n], "membership": "full", "index0": False}
                for n in (1, 7)
            ]
        }
    apply({2: "0x8001", 1: "0x8002"})
    assert set(server.members("0x1")) == {GUIDS[1], GUIDS[2], GUIDS[7]}
    done = apply({2: "0x8001", 1: "0x8002"}, "--own", "1", "--own", "0x8002")
    assert done.code == 0
    assert set(server.members("0x1")) == {GUIDS[2]}
    assert set(server.members("0x2")) == {GUIDS[1]}
    # Of others: it may be in several.
    assert set(server.members("0x9")) == {GUIDS[1], GUIDS[7]}
    host.connect().unplug(vifs(host, 1, 2))
    apply({2: "0x8001", 1: "0x8002"}, "--own", "1", "--own", "2")
    assert server.members("0x1") == server.members("0x2") == {}


def test_the_default_partition_is_never_touched():
    known = {0x7FFF: {Guid(5): ufm.Entry("full", False)}}
    assert ufm.difference([], known, [0x7FFF]) == []


def aliases(*pkeys):
    """VFs of one PF of ConnectX-3, from 1."""
    pf = PciAddress("0000:3b:00.0")
    return [
        Member(
            *("node1", pf, Guid(0xB8599F0300000001), n),
            *(PciAddress(f"0000:3b:00.{n}"), Guid(n), PKey.parse(pkey)),
            Family.MLX4,
        )
        for n, pkey in enumerate(pkeys, 1)
    ]


def test_the_pf_of_connectx_3_is_in_the_partitions_of_its_vfs():
    """In several at once, and at index 0 of none."""
    some = aliases("0x8001", "0x8002")
    requests = ufm.difference(some, {})
    assert [
        (one.body["pkey"], one.body["index0"], one.body["guids"])
        for one in requests
    ] == [
        ("0x0001", False, ["0000000000000001", "b8599f0300000001"]),
        ("0x0002", False, ["0000000000000002", "b8599f0300000001"]),
    ]
    known = {
        number: {guid: ufm.Entry(*due) for guid, due in there.items()}
        for number, there in ufm.wanted(some).items()
    }
    assert ufm.difference(some, known, [1, 2]) == []
    (gone,) = ufm.difference(some[:1], known, [1, 2])
    assert gone.path == "/actions/remove_guids_from_pkey"
    assert gone.body == {
        "pkey": "0x0002",
        "guids": ["0000000000000002", "b8599f0300000001"],
    }


def test_a_pf_of_connectx_3_keeps_its_own_first_p_key():
    """Who says so is no business of its VFs."""
    some = aliases("0x8001")
    pf = some[0].pf_guid
    there = {Guid(1): ufm.Entry("full", False), pf: ufm.Entry("full", True)}
    assert ufm.difference(some, {1: there}) == []


def test_a_pf_that_would_have_to_be_both():
    with pytest.raises(InvalidInput, match="none that are both") as caught:
        ufm.wanted(aliases("1:full", "1:limited"))
    assert "b8:59:9f:03:00:00:00:01" in caught.value.device


def test_many_guids_are_sent_in_parts():
    known = {1: {Guid(n): ufm.Entry("full", True) for n in range(1, 1202)}}
    sizes = [len(r.body["guids"]) for r in ufm.difference([], known, [1])]
    assert sizes == [500, 500, 201]


@pytest.mark.parametrize(
    "trouble", [500, 503, 429, "half", "hang up", "hang", "drip", "page"]
)
def test_what_passes_is_tried_again(server, there, trouble):
    server.troubles = [trouble] * 2
    assert there.known() == {0x7FFF: {}}
    server.troubles = [trouble] * 2
    if trouble != "page":
        there.send(
            ufm.Request(
                *("POST", "/resources/pkeys"),
                ufm.addition(1, FULL, [Guid(5)]),
            )
        )
        assert list(server.members("0x1")) == ["0000000000000005"]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (500, CommandFailed),
        ("half", CommandFailed),
        ("hang", TimedOut),
        ("drip", TimedOut),
        ("page", CommandFailed),
    ],
)
def test_what_does_not_pass_is_told(server, there, trouble, error):
    server.troubles = [trouble] * 4
    with pytest.raises(error) as caught:
        there.known()
    assert server.troubles == []
    assert "GET /ufmRest/resources/pkeys" in str(caught.value)


@pytest.mark.parametrize("trouble", [400, 404, 301, 307])
def test_what_will_not_get_better_is_not_tried_again(server, there, trouble):
    """A redirection neither: the password would go with it."""
    server.troubles = [trouble, "another"]
    with pytest.raises(CommandFailed, match=f"answered {trouble}"):
        there.known()
    assert server.troubles == ["another"]


@pytest.mark.parametrize(
    "answer",
    ["[]", "null", '{"x": {}}', '{"0x1": []}', '{"0x1": {"guids": [{}]}}',
     '{"0x1": {"guids": [{"guid": "x"}]}}', '{"0x1": {"guids": 5}}'],
)  # fmt: skip
def test_an_answer_of_another_form(server, there, answer):
    server.troubles = [(200, answer.encode())]
    with pytest.raises(CommandFailed, match="another form"):
        there.known()


def test_who_is_not_known(host, server, apply, secret):
    secret.write_text("username = admin\npassword = wrong\n")
    done = apply({})
    assert done.code == 3
    assert "--credentials" in done.err
    assert "wrong" not in done.out + done.err


def test_a_token(host, server, apply, secret):
    secret.write_text("token = abc\n")
    server.header, server.root = "Basic abc", "/ufmRestV3"
    assert apply({}).code == 0


def test_nobody_is_there(url, server, there):
    server.shutdown()
    server.server_close()
    with pytest.raises(NotRunning, match="cannot be reached"):
        there.known()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("token = x\n", 0o644, "by others"),
        ("token = x\n", 0o640, "by others"),
        ("token = \u00e9\n", 0o600, "no header"),
        ("token = a\tb\n", 0o600, "no header"),
        ("", 0o600, "neither"),
        ("username = x\n", 0o600, "neither"),
    ],
)
def test_a_file_of_credentials_that_is_none(tmp_path, text, mode, why):
    file = tmp_path / "ufm"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(InvalidInput, match=why):
        ufm.credentials(str(file))
    with pytest.raises(InvalidInput, match="cannot be read") as caught:
        ufm.credentials(str(tmp_path / "none"))
    assert "token = " in caught.value.cure


def test_a_file_of_credentials_that_is_somebody_else_s(secret, monkeypatch):
    if os.getuid() == 0:
        os.chown(secret, 12345, 12345)
    else:
        # Only root can give a file away; others can be somebody else.
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidInput, match="somebody else's") as caught:
        ufm.credentials(str(secret))
    assert "chown root" in caught.value.cure


def test_what_is_no_file_is_not_waited_for(tmp_path):
    pipe = tmp_path / "ufm"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(InvalidInput, match="neither"):
        ufm.credentials(str(pipe))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://ufm.example.net", "in the clear"),
        ("ftp://ufm", "not the address"),
        ("ufm", "not the address"),
        ("https://", "not the address"),
        ("https://a:b@ufm", "not the address"),
        ("https://ufm/ufmRest", "not the address"),
        ("https://ufm:x", "not the address"),
        ("https://[::1", "not the address"),
        (f"https://{'u' * 70}.example.net", "not the address"),
    ],
)
def test_a_url_that_is_none(url, why):
    with pytest.raises(InvalidInput, match=why):
        ufm.Ufm(url, ufm.Credentials("", ""))


def test_an_ipv6_address_without_a_port(monkeypatch):
    tried = set()

    def connect(self):
        tried.add((self.host, self.port))
        raise OSError(111, "Connection refused")

    monkeypatch.setattr("http.client.HTTPSConnection.connect", connect)
    there = ufm.Ufm("https://[fd00::abcd]", ufm.Credentials("", ""), pause=0)
    with pytest.raises(NotRunning, match="cannot be reached"):
        there.known()
    assert tried == {("fd00::abcd", 443)}


def certificate(folder, address):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, which makes certificates")
    key, made = folder / f"{address}.key", folder / f"{address}.crt"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-keyout", key, "-out", made, "-subj", "/CN=ufm"),
            *("-addext", f"subjectAltName=IP:{address}"),
        ],
        check=True,
        capture_output=True,
    )
    return str(made), str(key)


def test_a_certificate_is_verified(server, secret, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours, key = certificate(tmp_path, "127.0.0.1")
    context.load_cert_chain(ours, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    who = ufm.credentials(str(secret))
    url = f"https://127.0.0.1:{server.server_address[1]}"
    assert ufm.Ufm(url, who, ours, pause=0.01).known() == {0x7FFF: {}}
    with pytest.raises(CommandFailed, match="not to be trusted"):
        ufm.Ufm(url, who, pause=0.01).known()
    others, key = certificate(tmp_path, "192.0.2.1")
    context.load_cert_chain(others, key)
    with pytest.raises(CommandFailed, match="not to be trusted"):
        ufm.Ufm(url, who, others, pause=0.01).known()


def test_a_name_that_nobody_knows(secret):
    who = ufm.credentials(str(secret))
    with pytest.raises(NotRunning, match="cannot be found: ") as caught:
        ufm.Ufm("https://ufm.invalid", who, pause=0.01).known()
    assert caught.value.errno is None


def test_one_manager_is_named(run, host):
    done = run("fabric", "apply", "--ufm", "https://a", "--opensm", "b")
    assert done.code == 2
