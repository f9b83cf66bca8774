"""Tests to subclass: contracts of stores and faces, and a state machine that compares with a model.

Needs the extra `ego4dfs[testing]`. Nothing else in ego4dfs imports this package.
"""

try:
    import hypothesis
    import pytest
except ImportError as _error:
    raise ImportError(
        f"ego4dfs.testing needs {_error.name}: pip install 'ego4dfs[testing]'"
    ) from None

del hypothesis  # the modules import what they use
for _module in ("faces", "store_contract", "tree_contract", "tree_machine", "vfs_tree"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from ego4dfs.testing.contract_release import (  # noqa: E402 - its asserts are rewritten
    DATASETS,
    ContractRelease,
    write_mirror,
)
from ego4dfs.testing.faces import (  # noqa: E402
    DirectoryFace,
    Face,
    FsspecFace,
    OpeningFace,
    PathStatus,
    VFSFace,
)
from ego4dfs.testing.memory_store import MemoryStore  # noqa: E402
from ego4dfs.testing.open_files import OpenFile  # noqa: E402
from ego4dfs.testing.store_contract import StoreContract, StoreUnderTest  # noqa: E402
from ego4dfs.testing.tree_contract import TreeContract  # noqa: E402
from ego4dfs.testing.tree_machine import TreeMachine  # noqa: E402
from ego4dfs.testing.tree_under_test import Fault, TreeUnderTest  # noqa: E402
from ego4dfs.testing.vfs_tree import VFSTree  # noqa: E402

__all__ = [
    "DATASETS",
    "ContractRelease",
    "DirectoryFace",
    "Face",
    "Fault",
    "FsspecFace",
    "MemoryStore",
    "OpenFile",
    "OpeningFace",
    "PathStatus",
    "StoreContract",
    "StoreUnderTest",
    "TreeContract",
    "TreeMachine",
    "TreeUnderTest",
    "VFSFace",
    "VFSTree",
    "write_mirror",
]
