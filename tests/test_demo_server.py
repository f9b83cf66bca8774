"""The demo's S3 server: a real one, on loopback only, that always ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session
import pytest

from ego4dfs.demo import ports
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.sigv4_client import Identity, request
from ego4dfs.errors import Ego4DError
from kit.processes import is_running, open_descriptors, wait_until

BODY = b"0123456789" * 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        for name in ("plain", "versioned"):
            running.create_bucket(f"bucket-{name}", versioned=name == "versioned")
            running.put(f"bucket-{name}", "dir/object", BODY)
        yield running


def client(server: S3Server, identity: Identity) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )


def refusal(call: Any, **arguments: Any) -> int:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    return int(caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


def listeners(pid: int) -> set[tuple[str, int]]:
    """Return (address in the kernel's hexadecimal, port) of every TCP socket `pid` listens on."""
    links, found = set(open_descriptors(pid)), set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in links:
                address, port = cells[1].split(":")
                found.add((address, int(port, 16)))
    return found


def test_it_listens_on_loopback_only_and_on_ports_of_its_own_choice(server):
    assert server.pid is not None
    found = listeners(server.pid)
    assert {address for address, _ in found} == {"0100007F"}
    assert {port for _, port in found} <= set(server._ports.values())
    assert int(server.endpoint_url.rpartition(":")[2]) in {port for _, port in found}


@pytest.mark.parametrize("bucket", ["bucket-plain", "bucket-versioned"])
def test_the_licensee_may_head_and_get_with_range(server, bucket):
    s3 = client(server, server.licensee)
    assert s3.head_object(Bucket=bucket, Key="dir/object")["ContentLength"] == len(BODY)
    assert s3.get_object(Bucket=bucket, Key="dir/object")["Body"].read() == BODY
    part = s3.get_object(Bucket=bucket, Key="dir/object", Range="bytes=5-14")
    assert part["Body"].read() == BODY[5:15]
    assert part["ContentRange"] == f"bytes 5-14/{len(BODY)}"


def test_the_licensee_may_not_list_nor_write(server):
    s3 = client(server, server.licensee)
    assert refusal(s3.list_objects_v2, Bucket="bucket-plain") == 403
    assert refusal(s3.list_object_versions, Bucket="bucket-plain") == 403
    assert refusal(s3.put_object, Bucket="bucket-plain", Key="new", Body=b"") == 403
    assert refusal(s3.delete_object, Bucket="bucket-plain", Key="dir/object") == 403
    assert refusal(s3.create_bucket, Bucket="bucket-new") == 403


def test_strangers_are_refused(server):
    stranger = client(server, Identity("unknown", "secret"))
    impostor = client(server, Identity(server.licensee.access_key, "wrong"))
    for s3 in (stranger, impostor):
        assert refusal(s3.get_object, Bucket="bucket-plain", Key="dir/object") == 403


def test_a_missing_key_is_404_to_the_licensee(server):
    """Unlike on Amazon, as the class says."""
    s3 = client(server, server.licensee)
    assert refusal(s3.head_object, Bucket="bucket-plain", Key="missing") == 404
    assert refusal(s3.get_object, Bucket="bucket-plain", Key="missing") == 404


@pytest.mark.parametrize("bucket", ["bucket-plain", "bucket-versioned"])
def test_if_match_is_honoured(server, bucket):
    s3 = client(server, server.licensee)
    etag = s3.head_object(Bucket=bucket, Key="dir/object")["ETag"]
    for more in ({}, {"Range": "bytes=0-9"}):
        target = {"Bucket": bucket, "Key": "dir/object", **more}
        assert s3.get_object(**target, IfMatch=etag)["Body"].read() in BODY
        assert refusal(s3.get_object, **target, IfMatch='"other"') == 412


def test_only_a_versioned_bucket_has_version_ids(server):
    s3 = client(server, server.licensee)
    assert "VersionId" not in s3.head_object(Bucket="bucket-plain", Key="dir/object")
    assert s3.head_object(Bucket="bucket-versioned", Key="dir/object")["VersionId"]


def test_many_small_objects_and_a_large_file_are_uploaded(server, tmp_path):
    server.put_many("bucket-plain", ((f"many/{n}", b"%d" % n) for n in range(500)))
    large = tmp_path / "large"
    large.write_bytes(os.urandom(20 * 2**20))
    server.put("bucket-versioned", "large", large)
    s3 = client(server, server.admin)
    assert s3.list_objects_v2(Bucket="bucket-plain", Prefix="many/")["KeyCount"] == 500
    stored = s3.get_object(Bucket="bucket-versioned", Key="large")
    assert stored["Body"].read() == large.read_bytes()
    assert "-" in stored["ETag"], "a multipart ETag, as at Ego4D"


def test_a_session_token_of_the_user_has_no_effect(server, monkeypatch):
    """The library adds AWS_SESSION_TOKEN to keys that are given as plain arguments."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    server._stores.clear()
    server.put("bucket-plain", "with-token", b"x")


def test_secrets_are_hidden_from_repr_and_other_users(server):
    assert server.admin.secret_key not in repr(server.admin)
    assert (server.directory / "s3.json").stat().st_mode & 0o077 == 0


def test_environment_is_what_an_sdk_reads(server):
    assert server.environment(server.licensee) == {
        "AWS_ACCESS_KEY_ID": server.licensee.access_key,
        "AWS_SECRET_ACCESS_KEY": server.licensee.secret_key,
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_restart_keeps_port_data_and_keys(tmp_path):
    with S3Server(tmp_path) as server:
        for number in range(5):
            server.create_bucket(f"bucket-{number}", versioned=number % 2 == 1)
            server.put(f"bucket-{number}", "key", BODY)
        url, pid = server.endpoint_url, server.pid
        server.restart()
        assert (server.endpoint_url, server.pid != pid) == (url, True)
        s3 = client(server, server.licensee)
        for number in range(5):
            got = s3.get_object(Bucket=f"bucket-{number}", Key="key")
            assert got["Body"].read() == BODY, "at once, without a retry"
        server.create_bucket("bucket-later")
        server.put("bucket-later", "key", b"later")
    with S3Server(tmp_path) as later:
        s3 = client(later, server.licensee)
        for bucket, body in (("bucket-0", BODY), ("bucket-later", b"later")):
            assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == body


def test_nothing_is_lost_when_the_server_is_killed(tmp_path):
    with S3Server(tmp_path) as server:
        server.create_bucket("bucket", versioned=True)
        server.put_many("bucket", [(str(n), BODY) for n in range(100)])
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        s3 = client(server, server.licensee)
        for n in range(100):
            assert s3.get_object(Bucket="bucket", Key=str(n))["Body"].read() == BODY


def test_a_disk_that_is_nearly_full_is_named_at_once(small_disk):
    """SeaweedFS itself would write nothing and never answer."""
    server = S3Server(small_disk)
    (small_disk / "other").write_bytes(bytes(int(39.7 * (1 << 20))))
    with pytest.raises(Ego4DError, match=rf"no room for SeaweedFS in {small_disk}: .* 1% free"):
        server.start()
    assert server.pid is None


def test_stop_leaves_no_process_and_no_socket(tmp_path):
    server = S3Server(tmp_path).start()
    pid, sockets = server.pid, server._socket_files()
    assert pid is not None
    assert any(path.exists() for path in sockets)
    server.stop()
    server.stop()
    assert not is_running(pid)
    assert server.pid is None
    assert not any(path.exists() for path in sockets)
    with pytest.raises(OSError, match="refused"):
        request(server.admin, "GET", server.endpoint_url)


def test_it_ends_with_a_parent_that_is_killed(tmp_path):
    script = (
        "import os, sys\n"
        "from ego4dfs.demo.server import S3Server\n"
        "server = S3Server(sys.argv[1]).start()\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(int(done.stdout)))


def test_it_outlives_the_thread_that_started_it(tmp_path):
    """The kernel's parent-death signal follows the thread, not the process."""
    server = S3Server(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.5)
        assert request(server.admin, "GET", f"{server.endpoint_url}/")[0] == 200
    finally:
        server.stop()


def test_the_server_uses_other_ports_if_one_is_taken(tmp_path, monkeypatch):
    real, picked = ports.pick, []

    def pick(names, fixed):
        chosen = real(names, fixed)
        if not picked:
            snatcher.bind(("127.0.0.1", chosen["s3.port"]))
            snatcher.listen()
        picked.append(chosen)
        return chosen

    monkeypatch.setattr(ports, "pick", pick)
    with socket.socket() as snatcher, S3Server(tmp_path) as server:
        assert len(picked) == 2
        assert server._ports == picked[1]
        assert request(server.admin, "GET", f"{server.endpoint_url}/")[0] == 200


def test_picked_ports_are_free_distinct_and_respect_the_fixed_ones():
    chosen = ports.pick(("a", "b", "c"), {"b": 4242})
    assert chosen["b"] == 4242
    assert len(set(chosen.values())) == 3
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", chosen["a"]))
        holder.listen()
        assert not ports.all_free(chosen.values())
