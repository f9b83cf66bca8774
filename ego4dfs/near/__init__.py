"""The near tier: chunks of objects on an object store of a lab, which is read before S3."""

from ego4dfs.near.limits import NearLimits
from ego4dfs.near.store import NearStore
from ego4dfs.near.tier import NearTier

__all__ = ["NearLimits", "NearStore", "NearTier"]
