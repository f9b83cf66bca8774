"""The tree over HTTP: ranges, conditions, listings, and the status of what cannot be read."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import threading
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from starlette.responses import PlainTextResponse

from ego4dfs.errors import NotFound
from ego4dfs.runtime.throttled_log import ThrottledLog
from ego4dfs.vfs import VFS, DirEntry
from ego4dfs.web import app, listing
from ego4dfs.web import server as web_server
from ego4dfs.web.app import READS
from kit import media
from kit.data import MIB, seeded
from kit.gateway import Faults, Gateway, Reply
from kit.processes import wait_until
from kit.web import Client, served

LARGE = seeded("large", 3 * MIB + 17)
FILES = {"large.bin": LARGE, "small.json": b'{"a": 1}', "empty.csv": b"", "video.mp4": b"mp4"}
HOSTILE = "<script>alert('1')</script>&\"\u202e\n.html"


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    with Gateway(server.endpoint_url) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


@pytest.fixture
def vfs(gateway, release, open_tree) -> VFS:
    release.metadata(b"{}")
    release.dataset("annotations", FILES)
    return open_tree(version=release.version, datasets=["annotations"])


@pytest.fixture
def client(vfs):
    with served(vfs) as found:
        yield found


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_answered_with_its_bytes_and_what_identifies_them(client, top, name, vfs):
    found = client.get(f"{top}/{name}")
    assert (found.status, found.body) == (200, FILES[name])
    assert found.headers["Content-Length"] == str(len(FILES[name]))
    assert found.headers["ETag"] == f'"{vfs.open(f"{top}/{name}").etag}"'
    assert found.headers["Last-Modified"].endswith(" GMT")
    assert found.headers["Accept-Ranges"] == "bytes"
    head = client.get(f"{top}/{name}", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for header in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
        assert head.headers[header] == found.headers[header]


def test_head_requests_fetch_no_bytes(client, top, vfs):
    for name in FILES:
        assert client.get(f"{top}/{name}", method="HEAD").status == 200
    assert vfs.session.metrics.snapshot()["bytes_fetched"] == 0


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("bytes=0-4", slice(0, 5)),
        ("bytes=700000-1900000", slice(700_000, 1_900_001)),
        ("bytes=2000000-", slice(2_000_000, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=-999999999", slice(None)),
        ("bytes=0-99999999999999999999999", slice(None)),
        ("BYTES = 0 - 4", slice(0, 5)),
    ],
)
def test_a_range_is_answered_with_its_bytes(client, top, given, place):
    found = client.get(f"{top}/large.bin", Range=given)
    wanted = range(len(LARGE))[place]
    assert (found.status, found.body) == (206, LARGE[place])
    assert found.headers["Content-Range"] == f"bytes {wanted[0]}-{wanted[-1]}/{len(LARGE)}"


@pytest.mark.parametrize(
    "given",
    [
        "bytes=5-3",
        "bytes=-0",
        "bytes",
        "bytes=",
        "bytes=a-b",
        "items=0-1",
        "bytes=0-0,5-6",
        "bytes=٣-٤",
        "x" * 999,
    ],
)
def test_an_invalid_range_is_answered_with_the_file(client, top, given):
    found = client.get(f"{top}/small.json", Range=given.encode().decode("latin-1"))
    assert (found.status, found.body) == (200, FILES["small.json"])


@pytest.mark.parametrize(
    ("name", "given"),
    [("small.json", "bytes=8-"), ("small.json", "bytes=99-100"), ("empty.csv", "bytes=0-0")],
)
def test_a_range_behind_the_end_is_not_satisfiable(client, top, name, given):
    found = client.get(f"{top}/{name}", Range=given)
    assert (found.status, found.headers["Content-Range"]) == (416, f"bytes */{len(FILES[name])}")


def test_conditions_are_those_of_http(client, top):
    path = f"{top}/small.json"
    found = client.get(path).headers
    etag, date = found["ETag"], found["Last-Modified"]
    past, future = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    cases = [
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": f'"other", W/{etag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"other"', "If_Modified_Since": future}, 200),
        ({"If_Modified_Since": date}, 304),
        ({"If_Modified_Since": past}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"If_Match": f"W/{etag}"}, 412),
        ({"If_Unmodified_Since": date}, 200),
        ({"If_Unmodified_Since": past}, 412),
        ({"Range": "bytes=1-2", "If_Range": etag}, 206),
        ({"Range": "bytes=1-2", "If_Range": date}, 206),
        ({"Range": "bytes=1-2", "If_Range": '"other"'}, 200),
        ({"Range": "bytes=1-2", "If_Range": f"W/{etag}"}, 200),
        ({"Range": "bytes=1-2", "If_Range": f"w/{etag}"}, 200),
        ({"Range": "bytes=1-2", "If_Range": future}, 200),
        ({"Range": "bytes=1-2", "If_None_Match": etag}, 304),
    ]
    for method in ("GET", "HEAD"):
        for headers, status in cases:
            answer = client.get(path, method=method, **headers)
            expected = 200 if method == "HEAD" and status == 206 else status
            assert (answer.status, method, headers) == (expected, method, headers)
            if status in {304, 412}:
                assert answer.body == b""
                assert answer.headers["ETag"] == etag
                assert answer.headers["Cache-Control"] == found["Cache-Control"]


def test_a_manifest_has_a_validator_too(client, release):
    path = f"{release.version}/annotations/manifest.csv"
    found = client.get(path)
    assert found.body.startswith(b"video_uid,")
    assert client.get(path, method="HEAD").headers["ETag"] == found.headers["ETag"]
    assert client.get(path, If_None_Match=found.headers["ETag"]).status == 304
    assert client.get(path, Range="bytes=1-3").body == found.body[1:4]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.targets += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        self.text += data


def page(client: Client, path: str) -> Links:
    found = client.get(path)
    assert found.status == 200
    assert found.headers["Content-Type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(found.body.decode())
    return links


def test_a_directory_lists_its_names_as_links_without_a_request(client, top, vfs, gateway):
    before = gateway.methods["HEAD"]
    assert set(page(client, f"{top}/").targets) == {"../", "manifest.csv", *FILES}
    assert f"{top.partition('/')[0]}/" in page(client, "").targets
    assert gateway.methods["HEAD"] == before
    moved = client.get(top)
    assert (moved.status, moved.headers["Location"]) == (308, f"{client.base}{top}/")
    assert client.get(f"{top}/small.json/").status == 404


@pytest.mark.parametrize("form", ["query", "header"])
def test_a_directory_is_listed_as_json(client, top, form):
    assert client.get(f"{top}/small.json").status == 200  # its size is known from now on
    found = (
        client.get(f"{top}/?format=json")
        if form == "query"
        else client.get(f"{top}/", Accept="application/json")
    )
    assert found.headers["Content-Type"] == "application/json"
    rows = {row["name"]: row for row in json.loads(found.body)}
    assert set(rows) == {"manifest.csv", *FILES}
    assert rows["small.json"]["size"] == 8
    assert rows["small.json"]["mtime"].endswith(" GMT")
    assert rows["large.bin"] == {"name": "large.bin", "type": "file"}
    kinds = {row["name"]: row["type"] for row in json.loads(client.get("?format=json").body)}
    assert kinds == {top.partition("/")[0]: "directory", "ego4d.json": "file"}


def test_names_are_text_in_a_page_and_no_file_is_a_page(open_tree, release, licensee):
    release.metadata(b"{}")
    url = release.put("annotations/page.html", b"<script>1</script>")
    quoted = HOSTILE.replace('"', '""')
    rows = f'video_uid,type,s3_path\n1,file,"{url.rpartition("/")[0]}/{quoted}"\n2,file,{url}\n'
    release.manifest("annotations", rows)
    with served(open_tree(version=release.version, datasets=["annotations"])) as client:
        listing = page(client, f"{release.version}/annotations/")
        assert "script" not in listing.tags
        names = [unquote(target) for target in listing.targets]
        found = [name for name in names if "script" in name]
        policy = client.get(f"{release.version}/annotations/").headers["Content-Security-Policy"]
        html = client.get(f"{release.version}/annotations/page.html")
    assert len(found) == 1
    assert "\u202e" not in listing.text
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert html.body == b"<script>1</script>"
    assert html.headers["Content-Type"] == "application/octet-stream"
    assert html.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/x",
        "/wrong-token-of-t/",
        "/{top}/small.json",
        "//{token}/",
        "/%00",
        "/{token}x/",
        "/..%2f{token}/",
    ],
)
def test_nothing_is_said_without_the_token(client, top, target):
    found = client.raw(target.format(top=top, token=client.base.strip("/")))
    assert found.status == 403
    assert b"that ego4dfs has printed" in found.body
    assert b"annotations" not in found.body


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd",
        *("..%2f..%2fetc%2fpasswd", "{top}/../../../etc/passwd", "/etc/passwd"),
        *("%00", "{top}/small.json%00.csv", "{top}/%ff", "{top}/small.json/x", "nothing"),
        *("{top}/%2e%2e/%2e%2e/x", "%5c..%5c", "{top}/large.bin%2f", "a" * 5000),
    ],
)
def test_a_path_that_is_not_listed_is_not_found(client, top, path):
    for method in ("GET", "HEAD"):
        assert client.get(path.format(top=top), method=method).status == 404


def test_a_path_may_be_encoded_and_have_several_slashes(client, top):
    for path in (f"{top}//small.json", top.replace("/", "%2F") + "/sm%61ll.json"):
        assert client.get(path).body == FILES["small.json"]


OTHER_METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"]


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_other_methods_are_not_allowed(client, top, method):
    found = client.get(f"{top}/small.json", method=method)
    assert found.status == 405
    assert set(found.headers["Allow"].split(", ")) == {"GET", "HEAD"}
    refused = client.raw(f"/{top}/small.json", method=method)
    assert (refused.status, refused.headers["Allow"]) == (403, None)


def test_every_answer_has_the_headers_that_protect_a_browser(client, top):
    answers = [client.get(f"{top}{path}") for path in ("", "/", "/small.json", "/nothing")]
    answers += [client.raw("/"), client.get(f"{top}/small.json", method="POST")]
    assert [answer.status for answer in answers] == [308, 200, 200, 404, 403, 405]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] in {"no-store", "private, no-cache"}


def test_a_directory_is_moved_to_its_address_with_a_slash(client, top):
    base = f"{client.base}{top}/"
    version = top.partition("/")[0]
    targets = {
        f"{client.base}{top}?format=json&a=%20": f"{base}?format=json&a=%20",
        f"{client.base}{version}%2Fannotations": base,
        f"{client.base}/{version}//annotations": base,
        f"{client.base[:-1]}?format=json": f"{client.base}?format=json",
    }
    found = {target: client.raw(target).headers["Location"] for target in targets}
    assert found == targets


def test_a_target_may_be_a_url(client, top):
    for host in ("http://x", "http://127.0.0.1:1", "HTTP://[::1]"):
        assert client.raw(f"{host}{client.base}{top}/small.json").body == FILES["small.json"]
        assert client.raw(f"{host}/x{client.base}").status == 403
    assert [client.raw(target).status for target in ("http://x", "*")] == [403, 403]


def test_conditions_may_have_several_lines(client, top):
    etag = client.get(f"{top}/small.json").headers["ETag"]
    lines = "".join(f"If-None-Match: {known}\r\n" for known in ('"a"', etag, '"b"'))
    with closing(client.sent(f"{top}/small.json", lines)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 304")


@pytest.mark.parametrize("mtime_ns", [-(10**30), 10**30])
def test_a_time_beyond_those_of_http_is_the_nearest(client, top, vfs, mtime_ns, monkeypatch):
    stat = vfs.stat
    monkeypatch.setattr(vfs, "stat", lambda path: replace(stat(path), mtime_ns=mtime_ns))
    found = client.get(f"{top}/small.json")
    year = "1970" if mtime_ns < 0 else "9999"
    assert (found.status, found.headers["Last-Modified"].split()[3]) == (200, year)


def test_without_a_token_a_page_of_another_name_is_refused(vfs):
    names = ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:1", "127.0.0.1:1", "[::1]:1"]
    foreign = ["evil.example", "127.0.0.1.evil.example", "localhost.example:1", "[", ""]
    with served(vfs, token="") as client:
        assert [client.get("", Host=name).status for name in names] == [200] * 6
        assert [client.get("", Host=name).status for name in foreign] == [403] * 5
    with served(vfs) as client:
        assert client.get("", Host="evil.example").status == 200


REFUSED = Reply(
    403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
)
MISSING = Reply(404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.mark.parametrize(("reply", "status"), [(REFUSED, 403), (MISSING, 404)])
def test_an_error_of_the_store_has_a_status_and_one_line(client, top, gateway, reply, status):
    gateway.faults = Faults(reply=reply)
    for method in ("GET", "HEAD"):
        found = client.get(f"{top}/large.bin", method=method)
        assert (found.status, method) == (status, method)
    body = client.get(f"{top}/large.bin").body.decode()
    assert "large.bin" in body
    assert body.count("\n") <= 2


def test_a_video_window_is_a_file_too(open_tree, release, licensee):
    release.metadata(b"{}")
    release.dataset("full_scale", {"aaaa.mp4": media.form("index in front")})
    vfs = open_tree(version=release.version, datasets=["full_scale"])
    path = ".ego4dfs/windows/aaaa/1-2.mp4"
    with served(vfs) as client:
        found = client.get(path)
        head = client.get(path, method="HEAD")
        part = client.get(path, Range="bytes=100-199", If_Range=found.headers["ETag"])
        missing = client.get(".ego4dfs/windows/nobody/1-2.mp4")
    handle = vfs.open(path)
    assert found.body == vfs.read(handle, 0, handle.size)
    assert (found.headers["Content-Type"], missing.status) == ("video/mp4", 404)
    assert head.headers["ETag"] == found.headers["ETag"] != f'"{handle.etag}"'
    assert (part.status, part.body) == (206, found.body[100:200])


def test_an_object_that_is_replaced_is_answered_whole_and_new(client, top, release):
    etag = client.get(f"{top}/large.bin", Range="bytes=0-9").headers["ETag"]
    new = seeded("new", 2 * MIB)
    release.put("annotations/large.bin", new)
    found = client.get(f"{top}/large.bin", Range="bytes=2000000-2000009", If_Range=etag)
    assert (found.status, found.body) == (200, new)
    assert found.headers["ETag"] != etag


def test_a_body_that_cannot_be_finished_ends_its_connection(client, top, gateway, vfs, caplog):
    """The answer is shorter than its Content-Length, so that every client sees an error."""
    handle = vfs.open(f"{top}/large.bin")
    vfs.read(handle, 0, MIB)
    gateway.faults = Faults(reply=REFUSED)
    with closing(socket.create_connection(("127.0.0.1", client.port))) as connection:
        connection.sendall(f"GET {client.base}{top}/large.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while data := connection.recv(1 << 20):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert f"content-length: {len(LARGE)}".encode() in head.lower()
    assert LARGE.startswith(body)
    assert len(body) < len(LARGE)
    wait_until(lambda: "an answer ended before its last byte" in caplog.text)
    assert "Traceback" not in caplog.text


def test_a_local_error_in_a_body_is_one_line(client, top, vfs, monkeypatch, caplog):
    read = vfs.read

    def broken(handle, offset, size):
        if offset:
            raise OSError(5, "Input/output error", "/cache/7")
        return read(handle, offset, size)

    monkeypatch.setattr(vfs, "read", broken)
    with pytest.raises(http.client.IncompleteRead):
        client.get(f"{top}/large.bin")
    wait_until(lambda: "an answer ended before its last byte" in caplog.text)
    assert "Traceback" not in caplog.text


def test_an_error_of_this_machine_names_no_path_of_it(client, top, vfs, monkeypatch, caplog):
    def broken(*_):
        raise OSError(5, "Input/output error", "/home/me/cache/7")

    monkeypatch.setattr(vfs, "read", broken)
    found = client.get(f"{top}/small.json")
    assert (found.status, found.body.decode()) == (500, f"{top}/small.json: Input/output error\n")
    monkeypatch.setattr(vfs, "listdir_known", broken)
    assert client.get("%1b%0a/").status == 500
    assert "\\x1b\\n/: " in caplog.text


class Gate:
    """Reads that wait; how many run, and how many there were."""

    def __init__(self, vfs: VFS, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.running = self.peak = self.reads = 0
        self._read = vfs.read
        self._lock = threading.Lock()
        monkeypatch.setattr(vfs, "read", self.read)

    def read(self, *arguments) -> bytes:
        with self._lock:
            self.reads += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            self.opened.wait(60)
            return self._read(*arguments)
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def gate(vfs, monkeypatch):
    found = Gate(vfs, monkeypatch)
    yield found
    found.opened.set()


def test_clients_that_leave_start_no_more_reads(client, top, gate):
    """A read that hangs has its slot until it ends, and one that waits is not begun."""
    for running in (100, READS, READS):
        connections = [client.sent(f"{top}/small.json") for _ in range(100)]
        wait_until(lambda running=running: gate.running >= running)
        for connection in connections:
            connection.close()
    assert client.get(f"{top}/").status == 200
    gate.opened.set()
    assert client.get(f"{top}/small.json").body == FILES["small.json"]
    assert gate.peak == READS
    assert gate.reads < 300


def test_reads_that_hang_block_no_answer_that_needs_none(client, top, gate):
    assert client.get(f"{top}/small.json", method="HEAD").status == 200
    waiting = [client.sent(f"{top}/small.json") for _ in range(READS + 20)]
    wait_until(lambda: gate.running == READS)
    assert client.raw("/").status == 403
    assert client.get(f"{top}/small.json", method="POST").status == 405
    assert client.get(f"{top}/small.json", method="HEAD").status == 200
    assert client.get(f"{top}/nothing").status == 404
    assert client.get(top).status == 308
    assert client.get(f"{top}/?format=json").status == 200
    for connection in waiting:
        connection.close()


def test_the_first_bytes_of_a_file_are_freed_when_they_are_sent(client, top, vfs, monkeypatch):
    """A client that takes nothing has one read in memory, and what its connection holds."""
    read, made, ended = vfs.read, [], []

    class Counted(bytes):
        __slots__ = ()

        def __del__(self):
            ended.append(len(self))

    def counted(*place):
        made.append(place)
        return Counted(read(*place))

    monkeypatch.setattr(vfs, "read", counted)
    with closing(client.sent(f"{top}/large.bin")):
        wait_until(lambda: len(made) > 1)
        wait_until(lambda: len(made) - len(ended) == 1, timeout_s=20)


def listed(vfs: VFS, monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let each directory have `count` long names."""
    names = [f"{number:06}-{'x' * 200}" for number in range(count)]
    rows = [(DirEntry(name, number, is_dir=False), None) for number, name in enumerate(names)]
    monkeypatch.setattr(vfs, "listdir_known", lambda _: rows)
    return names


@pytest.mark.parametrize("count", [0, 1, listing.BATCH_ROWS, 2 * listing.BATCH_ROWS + 1])
def test_a_listing_of_several_parts_is_whole(client, top, vfs, count, monkeypatch):
    names = listed(vfs, monkeypatch, count)
    assert [row["name"] for row in json.loads(client.get(f"{top}/?format=json").body)] == names
    assert page(client, f"{top}/").targets == ["../", *names]
    head = client.get(f"{top}/", method="HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("query", ["", "?format=json"])
def test_a_large_listing_is_made_as_it_is_taken(client, top, vfs, query, monkeypatch):
    names = listed(vfs, monkeypatch, 30_000)
    made = []
    batch = listing._batch
    monkeypatch.setattr(listing, "_batch", lambda *given: made.append(1) or batch(*given))
    with closing(client.sent(f"{top}/{query}")) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert client.get(f"{top}/small.json").status == 200
        wait_until(lambda: made)
        assert len(made) < len(names) // listing.BATCH_ROWS


def test_slow_clients_keep_no_thread_and_block_nobody(client, top):
    """More clients than threads take nothing of their answers; another one is served."""
    request = f"GET {client.base}{top}/large.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(150)]
    try:
        for connection in slow:
            connection.sendall(request)
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(client.get(f"{top}/large.bin").body))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [body == LARGE for body in found] == [True] * 8
    finally:
        for connection in slow:
            connection.close()


def test_connections_that_end_at_once_leave_nothing(client, top):
    for number in range(1000):
        with closing(socket.create_connection(("127.0.0.1", client.port))) as connection:
            if number % 2:
                connection.sendall(f"GET {client.base}{top}/large.bin HTT".encode())
    assert client.get(f"{top}/small.json").body == FILES["small.json"]


def test_connections_beyond_the_limit_are_refused(vfs, top, monkeypatch):
    monkeypatch.setattr(web_server, "CONNECTIONS", 3)
    with served(vfs) as client:
        idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(2)]
        wait_until(lambda: client.get(f"{top}/small.json").status == 503)
        for connection in idle:
            connection.close()
        wait_until(lambda: client.get(f"{top}/small.json").status == 200)


def no_file(*_):
    raise OSError(errno.EMFILE, "Too many open files", "/the/cache")


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("ego4dfs.vfs.VFS.read_into", no_file, "too many open files"),
        (
            "ego4dfs.web.threads.DaemonThreadPool.submit",
            lambda *_, **__: False,
            "no process or thread can be started",
        ),
    ],
)
def test_requests_at_a_limit_of_the_process_are_told_to_come_again(
    client, top, monkeypatch, caplog, changed, to, said
):
    """As with too many requests at once. The log says so once, with the remedy."""
    monkeypatch.setattr(app, "_limits", ThrottledLog(app.log))  # it has logged nothing yet
    with monkeypatch.context() as patch:
        patch.setattr(changed, to)
        for _ in range(5):
            found = client.get(f"{top}/small.json")
            assert (found.status, found.headers["Retry-After"]) == (503, "10")
            assert found.body.decode().startswith(said)
            assert b"raise the limit" in found.body
            assert b"/the/cache" not in found.body
    lines = [one for one in caplog.messages if one.startswith("requests fail: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert client.get(f"{top}/small.json").status == 200


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_ignored(client, top, protocol, caplog):
    given = {"Connection": "Upgrade", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "x"}
    found = client.get(f"{top}/small.json", Upgrade=protocol, **given)
    assert (found.status, found.body) == (200, FILES["small.json"])
    assert "pgrade" not in caplog.text


def test_pages_are_beside_the_tree_and_have_a_policy_of_their_own(vfs, top):
    class Echo:
        async def answer(self, path, request):
            if path == "missing":
                raise NotFound("no such page")
            return PlainTextResponse(path, headers={"Content-Security-Policy": "its own"})

    with served(vfs, pages=Echo()) as client:
        found = client.get("browse/a/b%20c?x=1")
        assert (found.status, found.body) == (200, b"a/b c")
        assert found.headers.get_all("Content-Security-Policy") == ["its own"]
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert client.get("browse/missing").status == 404
        moved = client.get("browse?x=1")
        assert (moved.status, moved.headers["Location"]) == (308, f"{client.base}browse/?x=1")
        assert client.get(f"{top}/small.json").body == FILES["small.json"]
        assert client.get("browse/", method="POST").status == 405
        assert client.raw("/browse/").status == 403
    with served(vfs) as client:
        assert client.get("browse/").status == 404
