"""Locks that `os.register_at_fork` replaces in each forked child.

A thread that holds a lock at the fork does not exist in the child, and would never release it.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakValueDictionary


class LockOwner(Protocol):
    """An owner of a lock that another thread may hold at the moment of a fork."""

    def renew_lock(self) -> None:
        """Replace the lock; called in the child, before anything else runs there."""


_owners: WeakValueDictionary[int, LockOwner] = WeakValueDictionary()


def renew_lock_in_children(owner: LockOwner) -> None:
    """Call `owner.renew_lock` in each child that this process forks."""
    _owners[id(owner)] = owner


def _renew_locks() -> None:
    for owner in list(_owners.values()):
        owner.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)
