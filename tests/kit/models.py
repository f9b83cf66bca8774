"""The state machine of ego4dfs.testing on VFS, mount and fsspec; scripts/model runs it for long."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ego4dfs.testing import MemoryStore, TreeMachine, TreeUnderTest, VFSTree
from kit.trees import Account, FsspecTree, MountTree


class VFSMachine(TreeMachine):
    """On a VFS over a store in memory."""

    def make_tree(self, directory: Path) -> TreeUnderTest:
        store = MemoryStore()
        return VFSTree(store, store.put, directory)


def fsspec_machine(account: Account, transport: str) -> type[TreeMachine]:
    """Return the machine on `ego4d://`."""

    class FsspecMachine(TreeMachine):
        def make_tree(self, directory: Path) -> TreeUnderTest:
            return FsspecTree(account, directory, transport)

    return FsspecMachine


def mount_machine(account: Account, libfuse: str, transport: str) -> type[TreeMachine]:
    """Return the machine on a mount."""

    class MountMachine(TreeMachine):
        def make_tree(self, directory: Path) -> TreeUnderTest:
            return MountTree(account, directory, libfuse, transport)

    return MountMachine


def run(
    machine: type[TreeMachine],
    *,
    examples: int,
    steps: int,
    shrink: bool = True,
    repeatable: bool = False,
) -> None:
    """Run examples of so many steps, with `repeatable` the same ones each time.

    With `shrink` a failing example is made shorter.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=repeatable,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )
    counts = ", ".join(f"{count} {name}" for name, count in sorted(machine.outcomes.items()))
    print(f"{machine.__name__}: {examples} examples of up to {steps} steps: {counts}")
