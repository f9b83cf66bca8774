"""The near tier: chunks and facts of objects on a lab's object store, which is read before S3."""

from ego4dfs.near.limits import NearLimits
from ego4dfs.near.shared_facts import SharedFacts
from ego4dfs.near.store import NearStore
from ego4dfs.near.tier import NearTier

__all__ = ["NearLimits", "NearStore", "NearTier", "SharedFacts"]
