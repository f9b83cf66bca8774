"""A listing reads what is recorded of its files at once: no lookup after it reads a row."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ego4dfs.mount import binding_adapters
from ego4dfs.mount.kernel_readahead import KernelReadahead
from ego4dfs.mount.operations import Operations
from ego4dfs.store import ObjectFacts

FILES = {f"{number:03}.json": bytes(1 + number) for number in range(40)}
UNKNOWN = "020.json"


@pytest.fixture
def operations(open_tree, release):
    """Operations of a tree whose sizes are on disk, except one."""
    release.dataset("annotations", FILES)
    options = {"version": release.version, "datasets": ["annotations"], "metadata": False}
    first = open_tree(**options)
    facts = {
        release.url(f"annotations/{name}"): ObjectFacts(len(data), f"{name}", "", 10**18)
        for name, data in FILES.items()
        if name != UNKNOWN
    }
    assert len(first.session.facts.add_unknown(facts)) == len(facts)
    first.close()
    return Operations(open_tree(**options), lambda: None, os.getpid, KernelReadahead())


@pytest.fixture
def top(release) -> str:
    return f"/{release.version}/annotations"


def test_lookups_after_a_listing_read_no_row_of_known_files(operations, top, monkeypatch):
    names = [name for name, _, _ in operations.readdir(top, 1)]
    assert names == [".", "..", "manifest.csv", *FILES]
    table = operations._vfs.session.facts._table
    monkeypatch.setattr(table, "facts", lambda urls: pytest.fail(f"{urls} were read"))
    for name, data in FILES.items():
        if name != UNKNOWN:
            assert operations.getattr(f"{top}/{name}")["st_size"] == len(data)


def test_attributes_of_a_listing_are_those_of_each_file(operations, top):
    """Only what differs from the file before is set in the record that is sent."""
    module = SimpleNamespace(FUSE=object, c_stat=SimpleNamespace, set_st_attrs=_set)
    session = binding_adapters.session_class(module, 3)()
    session.operations = operations
    sent: dict[str, tuple[dict[str, int], bool]] = {}

    def filler(_buffer, name, record, _next, flags) -> int:
        sent[name.decode()] = (dict(vars(record)), bool(flags))
        return 0

    handle = SimpleNamespace(contents=SimpleNamespace(fh=operations.opendir(top)))
    assert session.readdir_fuse_3(top.encode(), None, filler, 0, handle, 0) == 0
    for name, data in FILES.items():
        record, is_known = sent[name]
        assert is_known == (name != UNKNOWN)
        if is_known:
            assert record == operations.getattr(f"{top}/{name}")
            assert record["st_size"] == len(data)


def _set(record: SimpleNamespace, attributes: dict[str, int], *, use_ns: bool) -> None:
    assert use_ns
    vars(record).update(attributes)
