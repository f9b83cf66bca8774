# ruff: noqa: INP001 - no package: pytest loads it by name
"""A pytest plugin: leave out the tests that cannot tell the second pass from the first.

Both passes differ in `--libfuse` and `--transport` only. A test can see these through the fixtures
of that name, or by asking `request` or `pytestconfig`, itself or through any fixture of ours. All
that can are kept; the rest would do the very same again.
"""

from __future__ import annotations

import pytest

OPTIONS = {"libfuse", "transport"}
DOORS = {"request", "pytestconfig"}


def can_see_options(item: pytest.Item) -> bool:
    """Tell whether the options can make a difference to this test."""
    if not isinstance(item, pytest.Function):
        return True
    info = item._fixtureinfo  # noqa: SLF001 - should it go, the pass fails and drops nothing
    fixtures = [fixture for same in info.name2fixturedefs.values() for fixture in same]
    asked = set(info.argnames).union(
        *(f.argnames for f in fixtures if not f.func.__module__.startswith("_pytest."))
    )
    return bool(OPTIONS & set(item.fixturenames) or DOORS & asked)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot; pytest says how many."""
    kept = [item for item in items if can_see_options(item)]
    config.hook.pytest_deselected(items=[item for item in items if not can_see_options(item)])
    items[:] = kept
