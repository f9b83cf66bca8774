"""The rule by which a file counts as a complete copy: one table for mount, prefetch and verify."""

from __future__ import annotations

import os
import time

import pytest

from ego4dfs.copies import Journal, Layout, Record, State
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.inventory import Inventory
from ego4dfs.copies.manifest_ver import Row, parse
from ego4dfs.copies.rule import Context, FileState, judge
from ego4dfs.copies.serving import Copies
from ego4dfs.manifest import Entry
from ego4dfs.store import ObjectFacts

MS, S = 10**6, 10**9
T = 1_600_000_000 * S  # when the object was uploaded
LATER, EARLIER = T + 3600 * S, T - 3600 * S
ETAG, OLD = "e" * 32, "0" * 32
URL, SOURCE = "s3://bucket/key/a.bin", "s3.amazonaws.com"
V1 = ObjectFacts(5, ETAG, "v1", T)  # in a bucket with versions
PLAIN = ObjectFacts(5, ETAG, "", T)  # in one without
CHANGED = 7 * S

SAME, ADOPT, CHECK, FETCH = State.RIGHT, State.ADOPT, State.CHECK, State.FETCH


def ours(facts, *, proof="md5", source=SOURCE, mtime_ns=0):
    return Record(URL, source, "v2", facts, proof, set_mtime_ns=mtime_ns)


def official(version, name="a.bin", saved_ns=0):
    return Row("a", version, name, saved_ns)


def of(**changed):
    """The facts of an object in a bucket with versions, with the given values replaced."""
    return ObjectFacts(**{"size": 5, "etag": ETAG, "version_id": "v1", "mtime_ns": T, **changed})


# What is known: the size and time of the file, our record, the row of its own directory and of
# others, and the object. Then: what has to be done, whether a mount uses it before it is read, and
# whether its size is enough where an ETag proves nothing.
RULE = {
    "no file": (None, None, None, [], V1, FETCH, False, False),
    "no file, and a row of it": (None, None, official("v1"), [], V1, FETCH, False, False),
    # 1. Our record of this ETag, size and time as we left them.
    "as recorded": ((5, T), ours(V1), None, [], V1, SAME, True, False),
    "as recorded, the object not known": ((5, T), ours(V1), None, [], None, SAME, True, False),
    "as recorded, the time in whole seconds": (
        (5, T + S),
        ours(V1),
        None,
        [],
        V1,
        SAME,
        True,
        False,
    ),
    "as recorded, the time in 10 ms": (
        *((5, T + 120 * MS), ours(of(mtime_ns=T + 123 * MS)), None, [], of(mtime_ns=T + 123 * MS)),
        *(SAME, True, False),
    ),
    "changed in the second of the upload": (
        *((5, T + 1100 * MS), ours(V1), None, [], V1),
        *(CHECK, False, False),
    ),
    "as recorded, the time could not be set": (
        *((5, LATER), ours(V1, mtime_ns=LATER), None, [], V1),
        *(SAME, True, False),
    ),
    "as recorded, uploaded again alike": (
        *((5, T), ours(V1), None, [], of(version_id="v2")),
        *(ADOPT, True, False),
    ),
    "as recorded by its size": ((5, T), ours(V1, proof="size"), None, [], V1, SAME, True, False),
    # 2. Our record of another ETag: the object was replaced.
    "as recorded, replaced": ((5, T), ours(of(etag=OLD)), None, [], V1, FETCH, False, False),
    "as recorded from another source": (
        *((5, T), ours(of(etag=OLD), source="mirror"), None, [], PLAIN),
        *(CHECK, True, True),
    ),
    "as recorded, replaced, and officially fetched": (
        *((5, T), ours(of(etag=OLD, version_id="v0")), official("v1"), [], V1),
        *(ADOPT, True, True),
    ),
    # 3. Another size than the object.
    "cut short": ((4, T), None, official("v1"), [], V1, FETCH, False, False),
    "cut short, with our record": ((4, T), ours(V1), None, [], V1, FETCH, False, False),
    # 4. A row with another version than the object.
    "an older version": ((5, LATER), None, official("v0"), [], V1, FETCH, False, False),
    "an older version, and our record": (
        *((5, LATER), ours(of(etag=OLD)), official("v0"), [], V1),
        *(FETCH, False, False),
    ),
    "an older version, and changed since": (
        *((5, LATER), None, official("v0", saved_ns=LATER - 3 * S), [], V1),
        *(CHECK, False, False),
    ),
    # 5. A row with the object's version that is not our own.
    "officially fetched": ((5, LATER), None, official("v1"), [], V1, ADOPT, True, False),
    "a row without a name": ((5, LATER), None, official("v1", ""), [], V1, ADOPT, True, False),
    "officially fetched over ours": (
        *((5, LATER), ours(of(etag=OLD, version_id="v0")), official("v1"), [], V1),
        *(ADOPT, True, False),
    ),
    "officially fetched, the times in two seconds": (
        *((5, LATER), None, official("v1", saved_ns=LATER - 2 * S), [], V1),
        *(ADOPT, True, False),
    ),
    "officially fetched, and changed since": (
        *((5, LATER), None, official("v1", saved_ns=LATER - 3 * S), [], V1),
        *(CHECK, False, False),
    ),
    "officially fetched over ours, and changed since": (
        (5, LATER),
        ours(of(etag=OLD, version_id="v0")),
        official("v1", saved_ns=LATER - 3 * S),
        [],
        V1,
        *(CHECK, False, False),
    ),
    "our row, and changed since": (
        (5, LATER),
        ours(V1),
        official("v1"),
        [],
        V1,
        CHECK,
        False,
        False,
    ),
    # 6. The same row in the directory of another dataset.
    "recorded elsewhere": ((5, LATER), None, None, [official("v1")], V1, ADOPT, True, False),
    "recorded elsewhere, an older version": (
        *((5, LATER), None, None, [official("v0")], V1),
        *(CHECK, False, False),
    ),
    "recorded elsewhere twice": (
        *((5, LATER), None, None, [official("v0"), official("v1")], V1),
        *(ADOPT, True, False),
    ),
    "recorded elsewhere, and changed since": (
        *((5, LATER), None, None, [official("v1", saved_ns=LATER - 3 * S)], V1),
        *(CHECK, False, False),
    ),
    "recorded elsewhere, after a change since its own row": (
        (5, LATER),
        None,
        official("v0", saved_ns=LATER - 3 * S),
        [official("v1", saved_ns=LATER)],
        V1,
        *(ADOPT, True, False),
    ),
    "recorded elsewhere, and ours": (
        *((5, LATER), ours(V1), None, [official("v1")], V1),
        *(CHECK, False, False),
    ),
    # 7. An empty version in a bucket without versions.
    "no versions": ((5, LATER), None, official(""), [], PLAIN, ADOPT, True, False),
    "no versions, changed since": (
        *((5, LATER), None, official("", saved_ns=LATER - 3 * S), [], PLAIN),
        *(CHECK, False, False),
    ),
    "no versions, recorded elsewhere": (
        *((5, LATER), None, None, [official("")], PLAIN),
        *(CHECK, False, True),  # another dataset may have a file of the same uid and name
    ),
    "no versions, recorded elsewhere, older than the object": (
        *((5, EARLIER), None, None, [official("")], PLAIN),
        *(CHECK, False, False),
    ),
    "no versions, older than the object": (
        *((5, EARLIER), None, official(""), [], PLAIN),
        *(CHECK, False, False),
    ),
    "no versions, the form of our rows": (
        *((5, LATER), None, official(None, ""), [], PLAIN),
        *(CHECK, False, True),
    ),
    "no versions, ours, and changed since": (
        *((5, LATER), ours(PLAIN), official("", "a.bin"), [], PLAIN),
        *(CHECK, False, False),
    ),
    "no versions, ours by its size, and changed since": (
        *((5, LATER), ours(PLAIN, proof="size"), official(""), [], PLAIN),
        *(CHECK, False, True),
    ),
    # An empty object has no bytes that could differ.
    "empty": ((0, LATER), None, None, [], of(size=0), ADOPT, True, False),
    # Anything else is read and compared, unless it has the time of the object.
    "no record": ((5, LATER), None, None, [], V1, CHECK, False, False),
    "no record, the object's time": ((5, T), None, None, [], V1, CHECK, True, True),
    "no record, the object's time in whole seconds": (
        *((5, T - S), None, None, [], V1),
        *(CHECK, True, True),
    ),
    "changed since it was fetched": ((5, LATER), ours(V1), None, [], V1, CHECK, False, False),
    "nothing is known": ((5, LATER), None, None, [], None, CHECK, False, False),
    "a row, and the object not known": (
        (5, LATER),
        None,
        official("v1"),
        [],
        None,
        CHECK,
        False,
        True,
    ),
}


@pytest.mark.parametrize("case", RULE)
def test_a_case_of_the_rule_has_its_verdict(case):
    file, record, row, elsewhere, facts, state, used, by_size = RULE[case]
    found = judge(
        FileState(*file) if file else None,
        record,
        row,
        facts,
        Context(source=SOURCE),
        rows_elsewhere=elsewhere,
    )
    assert (found.state, found.is_complete, found.size_suffices) == (state, used, by_size)


@pytest.mark.parametrize(
    ("facts", "mtime_ns", "used"),
    [(V1, T, True), (V1, LATER, False), (of(etag=OLD), T, False), (None, T, False)],
    ids=["the object's time", "another time", "another object", "an unknown object"],
)
def test_a_copy_accepted_by_its_size_is_compared_once_its_etag_can_prove_it(facts, mtime_ns, used):
    """A mount uses it before, as any file that has the size and the time of its object."""
    record = ours(V1, proof="size", mtime_ns=mtime_ns)
    context = Context(source=SOURCE, etag_can_prove=True)
    found = judge(FileState(5, mtime_ns), record, None, facts, context)
    assert (found.state, found.is_complete) == (State.CHECK, used)


@pytest.mark.parametrize("facts", [V1, None])
def test_bypass_existing_accepts_a_file_unless_its_size_differs(facts):
    context = Context(presence_suffices=True)
    assert judge(FileState(5, LATER), None, official("v0"), facts, context).state is State.RIGHT
    assert judge(FileState(4, LATER), None, None, V1, context).state is State.FETCH
    assert judge(FileState(5, T), ours(of(etag=OLD)), None, V1, context).state is not State.CHECK


def test_of_several_rows_of_a_uid_the_first_counts():
    """As in the official tool; with the last row a new version would look old."""
    rows, _ = parse(b"uid,version,filename\r\na,v0,a.bin\r\na,v1,a.bin\r\n")
    assert rows == [official("v0"), official("v1")]


def known(case):
    """Return whether both a mount and a prefetch can have the facts of a case."""
    file, record, _, _, facts, *_ = RULE[case]
    return file is not None and facts is not None and (record is None or record.source == SOURCE)


@pytest.mark.parametrize("case", [case for case in RULE if known(case)])
def test_mount_and_prefetch_use_the_same_rule(tmp_path, case):
    """Both read the same journal and the same manifest.ver files from a disk."""
    file, record, row, elsewhere, facts, state, used, _ = RULE[case]
    place = tmp_path / "v2/clips"
    place.mkdir(parents=True)
    (place / "manifest.csv").write_text(f"uid,s3_path\na,{URL}\n")
    (place / "a.bin").write_bytes(b"x" * file[0])
    os.utime(place / "a.bin", ns=(file[1], file[1]))
    write_rows(place, [row] if row else [])
    for number, other in enumerate(elsewhere):
        write_rows(tmp_path / f"v2/other{number}", [other])
    (tmp_path / ".ego4dfs").mkdir()
    journal = Journal(Layout(tmp_path, "v2").state)
    journal.complete([("v2/clips/a.bin", record)] if record else [])
    journal.close()

    journal = Journal(Layout(tmp_path, "v2").state, read_only=True)
    nothing: frozenset[str] = frozenset()
    entry = Entry(0, "a.bin", "a", URL, nothing, None, nothing, "")
    evidence = BucketEtags(journal, SOURCE)
    layout = Layout(tmp_path, "v2")
    inventory = Inventory.scan(layout, journal, "clips", [entry], {}, evidence)
    found = inventory.judge(entry, facts, source=SOURCE, presence_suffices=False)
    copies = Copies(tmp_path, SOURCE, lambda _text: None)
    try:
        copy = copies.find_valid("v2/clips/a.bin", URL, facts)
    finally:
        copies.close()
        journal.close()
    assert (found.state, found.is_complete) == (state, used)
    assert (copy is not None) == used  # none of the files has the bytes of its ETag


def write_rows(directory, rows):
    directory.mkdir(parents=True, exist_ok=True)
    if rows:
        kept = (row.fields if row.version is not None else (row.uid,) for row in rows)
        text = "\r\n".join(["uid,version,filename", *map(",".join, kept), ""])
        (directory / "manifest.ver").write_text(text, newline="")
        saved_ns = rows[0].saved_ns or time.time_ns()
        os.utime(directory / "manifest.ver", ns=(saved_ns, saved_ns))
