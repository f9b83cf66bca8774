"""The rule by which a file on disk counts as a complete copy of its object (ADR 0011). Pure.

The mount, prefetch and verify use this one function, on the same records.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

from ego4dfs.copies.manifest_ver import Row
from ego4dfs.copies.record import Record, is_same_time
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Proof

COMPARED_BYTES = 1 << 30
"""The most that is read to compare files with their ETags, if no record decides."""


class State(enum.Enum):
    """What has to be done about one file."""

    RIGHT = "there"
    ADOPT = "adopt"  # complete by the official tool's record or by its bytes: it needs our record
    CHECK = "check"  # of the right size, but no record says of which version: compare the bytes
    FETCH = "fetch"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FileState:
    """A file on disk: its size in bytes and its modification time."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of one file.

    `size_suffices`: in the state CHECK, an ETag that proves nothing does not make the file wrong.
    `has_object_time`: the file's modification time is the object's, as prefetch sets it.
    """

    state: State
    size_suffices: bool = False
    has_object_time: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the file can be used as the object without reading it first."""
        if self.state is State.CHECK:
            return self.has_object_time
        return self.state in (State.RIGHT, State.ADOPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the judgement of a file depends on besides its records.

    `source` is where the object's facts come from. `etag_can_prove`: a comparison of the recorded
    object with its ETag is known to show whether its bytes are right. `presence_suffices`: a file
    of the right size needs no further check.
    """

    source: str = ""
    etag_can_prove: bool = False
    presence_suffices: bool = False


def judge(
    file: FileState | None,
    record: Record | None,
    row: Row | None,
    facts: ObjectFacts | None,
    context: Context,
    *,
    rows_elsewhere: Collection[Row] = (),
) -> Verdict:
    """Return the state of a file.

    `record` is the journal's record of this object, `row` its row in the manifest.ver beside the
    file, `rows_elsewhere` its rows in the directories of other datasets, and `facts` its current
    facts. Each may be unknown. A row that is older than the file says nothing about its bytes.
    """
    if file is None:
        return Verdict(State.FETCH)
    if row is not None and not row.is_saved_after(file.mtime_ns):
        row = None
    rows_elsewhere = [one for one in rows_elsewhere if one.is_saved_after(file.mtime_ns)]
    if record is not None and is_as_recorded(file, record):
        state = _judge_unchanged(record, row, facts, context)
        if state is not None:
            is_dated = _has_time_of(file, record, facts)
            return Verdict(state, has_object_time=is_dated)
    is_elsewhere = row is None and record is None
    if is_elsewhere:
        row = _row_of_version(rows_elsewhere, facts)
    if facts is not None:
        return _judge_by_facts(file, record, row, facts, context, is_elsewhere=is_elsewhere)
    if context.presence_suffices:
        return Verdict(State.RIGHT)
    return Verdict(State.CHECK, size_suffices=record is not None or row is not None)


def is_as_recorded(file: FileState, record: Record) -> bool:
    """Return whether a file has the size and the time in its record."""
    same_size = file.size == record.facts.size
    return same_size and is_same_time(file.mtime_ns, record.file_mtime_ns)


def _judge_unchanged(
    record: Record, row: Row | None, facts: ObjectFacts | None, context: Context
) -> State | None:
    """Return the state of a file that agrees with its record; None if that does not decide it."""
    if record.checksum != Proof.RIGHT.value and context.etag_can_prove:
        return State.CHECK  # it was accepted when less was known of its bucket
    if facts is None or facts.etag == record.facts.etag:
        same = facts is None or facts.version_id == record.facts.version_id
        return State.RIGHT if same else State.ADOPT
    is_latest = row is not None and row.version and row.version == facts.version_id
    # The object was replaced. If the official tool has fetched the new version since, the file
    # only seems unchanged: its size is the same, and the times differ by less than two seconds.
    return None if is_latest or record.source != context.source else State.FETCH


def _has_time_of(file: FileState, record: Record, facts: ObjectFacts | None) -> bool:
    """Return whether a file has the time of its object, and its record is of this version."""
    is_same = facts is not None and facts.etag == record.facts.etag
    return facts is not None and is_same and is_same_time(file.mtime_ns, facts.mtime_ns)


def _judge_by_facts(
    file: FileState,
    record: Record | None,
    row: Row | None,
    facts: ObjectFacts,
    context: Context,
    *,
    is_elsewhere: bool,
) -> Verdict:
    """Judge a file by the facts of its object, if our record does not decide."""
    is_dated = is_same_time(file.mtime_ns, facts.mtime_ns)
    if file.size != facts.size:
        return Verdict(State.FETCH, has_object_time=is_dated)
    if context.presence_suffices:
        return Verdict(State.RIGHT, has_object_time=is_dated)
    if not facts.size:
        return Verdict(State.ADOPT, has_object_time=is_dated)  # no bytes that could differ
    verdict = _judge_by_row(file, record, row, facts, is_elsewhere=is_elsewhere)
    return Verdict(verdict.state, verdict.size_suffices or is_dated, is_dated)


def _judge_by_row(
    file: FileState,
    record: Record | None,
    row: Row | None,
    facts: ObjectFacts,
    *,
    is_elsewhere: bool,
) -> Verdict:
    """Judge a file of the right size by the official tool's record of it."""
    # Bytes that an ETag has proved can be proved again, so their size is not enough.
    is_unproved = (
        record is not None
        and record.facts.etag == facts.etag
        and record.checksum != Proof.RIGHT.value
    )
    if row is None:
        return Verdict(State.CHECK, is_unproved)
    if row.version and facts.version_id:
        if row.version != facts.version_id:
            return Verdict(State.FETCH)
        is_official = record is None or record.facts.version_id != row.version
        # With our own record of this version, the file was changed since it was fetched.
        return Verdict(State.ADOPT if is_official else State.CHECK, is_unproved)
    if facts.version_id:
        return Verdict(State.CHECK, is_unproved)
    # The official tool records a complete download; without versions the file's time decides.
    is_newer = not row.version and file.mtime_ns >= facts.mtime_ns and record is None
    # A row in another directory may be about another file with the same uid and name.
    if is_newer and row.version is not None and not is_elsewhere:
        return Verdict(State.ADOPT)
    return Verdict(State.CHECK, is_unproved or is_newer)


def _row_of_version(rows: Collection[Row], facts: ObjectFacts | None) -> Row | None:
    """Return the row that has the object's version, or any row if its facts are unknown."""
    if facts is None:
        return next(iter(rows), None)
    return next((row for row in rows if (row.version or "") == facts.version_id), None)
