"""What the tests themselves hold on the disk: a run must not need tens of gigabytes."""

from __future__ import annotations

import obstore

from kit.data import MIB, seeded
from kit.processes import wait_until
from kit.server import SHARING, Release, RunServer


def test_a_server_that_holds_much_gives_back_the_space_of_a_release_that_ended(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("kit.server.RECLAIM_ABOVE", 8 * MIB)
    large = seeded("large", 4 * MIB)  # no zeros: the server compresses
    with RunServer(tmp_path) as server:
        server.create_bucket(SHARING)
        Release(server, "v1").put("kept.mp4", seeded("kept", MIB))
        server.end_release("v1")
        server.put_many(SHARING, [(f"public/v10/{number}", large) for number in range(4)])

        def held() -> int:
            server.end_release("v10")
            return sum(path.stat().st_size for path in tmp_path.rglob("*.dat"))

        wait_until(lambda: held() < 8 * MIB)
        [entry] = obstore.list(server.store(SHARING)).collect()
        assert entry["path"] == "public/v1/objects/kept.mp4"
        found = obstore.get(server.store(SHARING), entry["path"]).bytes()
    assert bytes(found) == seeded("kept", MIB)
