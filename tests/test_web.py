"""The tree over HTTP: ranges, conditions, listings, and the status of what cannot be read."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import closing
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from ego4dfs.vfs import VFS
from ego4dfs.web import server as web_server
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
        "bytes",
        "bytes=",
        "bytes=a-b",
        "items=0-1",
        "bytes=0-0,5-6",
        "bytes=٣-٤",
        "x" * 999,
    ],
)
def test_a_range_that_is_none_is_answered_with_the_file(client, top, given):
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
    assert (moved.status, moved.headers["Location"]) == (308, "annotations/")
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
    assert b"ego4dfs serve" in found.body
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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(client, top, method):
    found = client.get(f"{top}/small.json", method=method)
    assert found.status == 405
    assert set(found.headers["Allow"].split(", ")) == {"GET", "HEAD"}


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


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_ignored(client, top, protocol, caplog):
    given = {"Connection": "Upgrade", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "x"}
    found = client.get(f"{top}/small.json", Upgrade=protocol, **given)
    assert (found.status, found.body) == (200, FILES["small.json"])
    assert "pgrade" not in caplog.text
