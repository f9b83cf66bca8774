"""What the tests themselves hold on the disk: a run must not need tens of gigabytes."""

from __future__ import annotations

import obstore

from kit.data import MIB, seeded
from kit.processes import wait_until
from kit.server import RECLAIM_ABOVE, SHARING, Release, RunServer


def test_a_server_that_holds_much_gives_back_the_space_of_a_release_that_ended(tmp_path):
    large = seeded("large", 32 * MIB)  # no zeros: the server compresses
    count = 1 + RECLAIM_ABOVE // len(large)
    with RunServer(tmp_path) as server:
        server.create_bucket(SHARING)
        Release(server, "v1").put("kept.mp4", seeded("kept", MIB))
        server.end_release("v1")
        server.put_many(SHARING, [(f"public/v10/{number}", large) for number in range(count)])

        def held() -> int:
            server.end_release("v10")
            return sum(path.stat().st_size for path in tmp_path.rglob("*.dat"))

        wait_until(lambda: held() < RECLAIM_ABOVE)
        [entry] = obstore.list(server.store(SHARING)).collect()
        assert entry["path"] == "public/v1/objects/kept.mp4"
        found = obstore.get(server.store(SHARING), entry["path"]).bytes()
    assert bytes(found) == seeded("kept", MIB)
