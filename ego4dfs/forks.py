"""Transactions that no fork cuts in two.

SQLite remembers in the process's memory which locks its connections hold. A child that is forked
in the middle of a transaction inherits that memory for ever: it takes the parent's lock for its
own, waits 30 s and fails with "database is locked". So every use of an index happens under
`whole`, and a fork waits for it: a DataLoader may fork while the parent fills its cache.
"""

from __future__ import annotations

import os
import threading

whole = threading.RLock()
"""Held while an index is used, and while the process forks."""

os.register_at_fork(
    before=whole.acquire, after_in_parent=whole.release, after_in_child=whole.release
)
