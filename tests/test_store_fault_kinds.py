"""Each fault of the gateway gives the right bytes or an error through the store."""

from __future__ import annotations

import pytest

from ego4dfs.errors import Ego4DError
from kit.data import seeded
from kit.fault_kinds import KINDS
from kit.gateway import Faults

SIZE = 300_000
# Those that last: the tests of deadlines have them.
SLOW = {"silence before the answer", "silence in the body", "bodies that trickle"}
SLOW |= {"headers that trickle", "503 with Retry-After"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SLOW])
def test_a_fault_gives_right_bytes_or_an_error(kind, store, gateway, bucket, no_retry_waits):
    url = bucket.put("0", seeded("0", SIZE))
    facts = store.head(url)
    gateway.faults = Faults(**{**KINDS[kind], "only": "/0"})
    try:
        fetched = store.read_range(url, 100_000, SIZE, etag=facts.etag, size=SIZE)
    except Ego4DError:
        assert kind != "none"
    else:
        assert bytes(fetched.data) == seeded("0", SIZE)[100_000:]
