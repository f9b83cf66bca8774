"""Generated input for each reader of foreign data: a result or one clear error, never wrong data.

`scripts/fuzz` is the long form. What it finds becomes a test in test_fuzz_findings.py.
"""

from __future__ import annotations

import pytest

from kit.fuzz.target import Target, run
from kit.fuzz.targets import TARGETS

SEED = 1

pytestmark = pytest.mark.first_pass


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_has_another_result(target: Target) -> None:
    """The seed is fixed, so that a change is judged by itself; scripts/fuzz takes new ones."""
    inputs: list[None] = []
    run(target, target.examples, SEED, lambda: inputs.append(None))
    assert len(inputs) >= target.examples / 2
