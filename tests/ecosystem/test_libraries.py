"""Each library reads the right data through a mount and `ego4d://`, and fetches little more."""

from __future__ import annotations

import pytest

from ecosystem.cases import CASES, FACES, most

pytestmark = [
    *(pytest.mark.fuse, pytest.mark.slow, pytest.mark.first_pass),
    pytest.mark.timeout(500),  # a library and four workers are imported on a busy machine
]

_RUNS = [
    pytest.param(
        case, face, id=f"{case.id} {face}", marks=[pytest.mark.light] if case.is_light else []
    )
    for case in CASES
    for face in FACES
    if case.can_run() and most(case, face) is not None
]


@pytest.mark.parametrize(("case", "face"), _RUNS)
def test_it_is_right_and_fetches_at_most(case, face, run_case, record_property):
    outcome, fetched_mib = run_case(case, face)
    record_property("case", case.id)
    record_property("face", face)
    record_property("fetched_mib", f"{fetched_mib:.1f}")
    record_property("raised", outcome.get("raised", ""))
    expected = most(case, face)
    if isinstance(expected, str):
        assert outcome.get("raised", "").startswith(f"{expected}:"), outcome
    else:
        assert outcome == {"same": True}
        assert fetched_mib <= expected
