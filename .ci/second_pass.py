# ruff: noqa: INP001 - no package: pytest loads it by name
"""A pytest plugin: leave out the tests that run the same in the second pass as in the first.

Both passes differ in `--libfuse` and `--transport` only. A test can see these through the fixtures
of that name, or by asking `request` or `pytestconfig`, itself or through any fixture of ours. All
that can are kept; the rest would do the very same again. So would a test whose fixture takes only
`request.param`: it has all its variants in each pass.

Tests with the mark `first_pass` are left out too. They run commands, which need a store, but what
they assert is decided above store and mount (a selection, a plan, a record), or they run on both
transports by themselves.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

import pytest

OPTIONS = {"libfuse", "transport"}
DOORS = {"request", "pytestconfig"}


def can_see_options(item: pytest.Item) -> bool:
    """Tell whether the options can make a difference to this test."""
    if item.get_closest_marker("first_pass"):
        return False
    if not isinstance(item, pytest.Function):
        return True
    info = item._fixtureinfo  # noqa: SLF001 - should it go, the pass fails and drops nothing
    fixtures = [fixture for same in info.name2fixturedefs.values() for fixture in same]
    functions = [f.func for f in fixtures if not f.func.__module__.startswith("_pytest.")]
    return bool(OPTIONS & set(item.fixturenames)) or any(map(has_door, [item.obj, *functions]))


@cache
def has_door(function: Any) -> bool:
    """Tell whether a function takes `pytestconfig`, or of `request` more than its parameter."""
    found = DOORS & set(inspect.signature(function).parameters)
    return bool(found) and (found != {"request"} or not takes_only_param(function))


def takes_only_param(function: Any) -> bool:
    """Tell whether each use of `request` in a function is `request.param`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    params = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "request.param"
    ]
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "request"]
    return len(names) == len(params)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot; pytest says how many."""
    kept = [item for item in items if can_see_options(item)]
    config.hook.pytest_deselected(items=[item for item in items if not can_see_options(item)])
    items[:] = kept
