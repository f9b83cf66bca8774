"""The state machine of ego4dfs.testing on each face: the tree returns what a directory would.

`scripts/model EXAMPLES STEPS` runs it for longer.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ego4dfs.testing import TreeMachine
from kit import models
from kit.trees import Account


@pytest.fixture
def account(aws, server, gateway) -> Account:
    return Account(aws, server, gateway)


@pytest.fixture
def run(request) -> Callable[..., None]:
    """Run a machine; numbers of the command line replace those of the test.

    The examples of the test are the same each time, so that a change is judged by itself.
    """

    def run_machine(machine: type[TreeMachine], examples: int, steps: int, **settings) -> None:
        given = request.config.getoption("--examples")
        examples = given or examples
        steps = request.config.getoption("--steps") or steps
        models.run(machine, examples=examples, steps=steps, repeatable=not given, **settings)

    return run_machine


def test_a_vfs_returns_what_a_directory_would(run):
    run(models.VFSMachine, 30, 50)


def test_fsspec_returns_what_a_directory_would(run, account, transport):
    run(models.fsspec_machine(account, transport), 5, 30, shrink=False)


@pytest.mark.fuse
def test_a_mount_returns_what_a_directory_would(run, account, libfuse, transport):
    run(models.mount_machine(account, libfuse, transport), 3, 30, shrink=False)
