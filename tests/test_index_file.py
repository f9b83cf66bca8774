"""`ego4dfs index`: what an export has, what an import adds, keeps and refuses."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ego4dfs.cache import prepare_directory, source_directory
from ego4dfs.catalog import CachedManifest, ManifestCache, manifest_url, metadata_url
from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import CacheError, ConfigError, ObjectMissing
from ego4dfs.facts import FactsIndex, MediaFacts
from ego4dfs.index_file import (
    BadRow,
    ExportReport,
    ImportReport,
    IndexExporter,
    IndexImporter,
    IndexReader,
)
from ego4dfs.index_file.importer import MAX_MANIFESTS, SHOWN
from ego4dfs.index_file.schema import ABOUT, FACTS, MANIFESTS, MEDIA
from ego4dfs.media import read_index
from ego4dfs.prefetch import Outage
from ego4dfs.store import ObjectFacts
from kit import media
from kit.cli import unwarned
from kit.data import MIB, seeded
from kit.fakes import CountingStore
from kit.gateway import Gateway
from kit.index_files import change, reseal, write_index
from kit.mounts import status
from kit.server import Release
from kit.sessions import session_over


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


VERSION, DATASET = "v9", "clips"
URL, OTHER = "s3://b/a.mp4", "s3://b/b.mp4"
MANIFEST = f"video_uid,type,s3_path\na,video,{URL}\nb,video,{OTHER}\n".encode()
ETAG = md5(MANIFEST)
TIME_NS = 1_600_000_000 * 10**9
ROW = (VERSION, DATASET, ETAG, TIME_NS, MANIFEST)
FACT = (URL, 10, "e" * 32, "v1", TIME_NS)


# --- the command against the real server ----------------------------------------------------------


@dataclass
class Machines:
    """The command on several machines, each with a cache of its own, through a counting gateway."""

    release: Release
    front: Gateway
    capture: pytest.CaptureFixture[str]
    directory: Path

    def __call__(self, machine: str, *words: str, code: int = 0) -> tuple[str, str]:
        """Run `ego4dfs index` on a machine; return what it printed on stdout and stderr."""
        self.front.reset()
        self.front.faults.hide_missing = True
        if words[0] == "export":
            words = (*words, "--version", self.release.version, "--retry-for", "0")
        done = main(["index", *words, "--cache-dir", str(self.directory / machine)])
        out, err = self.capture.readouterr()
        assert done == code, f"{done}\n{out}\n{err}"
        return out, unwarned(err)

    def report(self, machine: str, *words: str, code: int = 0) -> dict[str, object]:
        """Run it; return its JSON document."""
        return json.loads(self(machine, *words, "--json", code=code)[0])

    @property
    def heads(self) -> int:
        """How many HEAD requests the last run sent."""
        return self.front.methods["HEAD"]

    @property
    def file(self) -> str:
        """The path of the index file."""
        return str(self.directory / "lab.sqlite")


@pytest.fixture
def machines(release, front, capsys, tmp_path) -> Machines:
    return Machines(release, front, capsys, tmp_path)


def files_of(count: int) -> dict[str, bytes]:
    return {f"{number}.mp4": seeded(str(number), 1000 + number) for number in range(count)}


def test_an_export_fetches_what_is_unknown_once_and_an_import_costs_no_request(machines):
    files = files_of(20)
    machines.release.dataset("clips", files)
    machines.release.metadata(b"{}")
    first = machines.report("one", "export", machines.file, "--datasets", "clips")
    assert machines.heads == 21
    assert (first["manifests"], first["facts"], first["objects"]) == (1, 21, 21)
    assert first["bytes"] == Path(machines.file).stat().st_size
    assert first["missing"] == {}
    machines.report("one", "export", machines.file, "--overwrite")  # the cached manifests
    assert machines.heads == 0

    added = machines.report("two", "import", machines.file)
    assert sum(machines.front.methods.values()) == 0
    assert added["manifests"] == {"added": 1, "kept": 0, "refused": 0}
    assert added["facts"] == {"added": 21, "kept": 0, "refused": 0}
    again = machines.report("two", "import", machines.file)
    assert again["manifests"] == {"added": 0, "kept": 1, "refused": 0}
    assert again["facts"] == {"added": 0, "kept": 21, "refused": 0}


def test_the_file_is_read_with_plain_sql(machines):
    files = files_of(3)
    manifest = machines.release.dataset("clips", files)
    machines("one", "export", machines.file, "--datasets", "clips", "--no-metadata")
    with closing(sqlite3.connect(machines.file)) as database:
        facts = database.execute("SELECT url, size, etag FROM facts ORDER BY url").fetchall()
        assert facts == [
            (machines.release.url(f"clips/{name}"), len(data), md5(data))
            for name, data in files.items()
        ]
        [(version, etag, content)] = database.execute(
            "SELECT version, etag, content FROM manifests WHERE dataset = 'clips'"
        )
        assert (version, content) == (machines.release.version, manifest)
        assert etag == md5(manifest)
        about = dict(database.execute("SELECT name, value FROM about"))
        assert about["source"] == machines.front.url
        assert "licence of Ego4D" in about["licence"]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_text_says_numbers_size_and_licence(machines):
    machines.release.dataset("clips", files_of(3))
    out, _ = machines("one", "export", machines.file, "--datasets", "clips", "--no-metadata")
    assert f"{machines.file}: 1 manifest, 3 of 3 objects, the key frames of 0 videos, " in out
    assert "falls under the licence of Ego4D" in out
    out, _ = machines("two", "import", machines.file)
    assert out.splitlines()[1].split() == ["added", "known", "here", "refused"]
    assert out.splitlines()[3].split() == ["facts", "3", "0", "0"]


def test_filters_and_known_only_limit_the_facts(machines):
    files = files_of(6)
    machines.release.dataset("clips", files)
    words = ("export", machines.file, "--datasets", "clips", "--no-metadata")
    some = machines.report("one", *words, "--video_uids", "1", "2")
    assert (some["facts"], some["objects"], machines.heads) == (2, 2, 2)
    known = machines.report("one", *words, "--known-only", "--overwrite")
    assert (known["facts"], known["objects"], known["missing"]) == (2, 6, {"unknown": 4})
    assert machines.heads == 0


def test_objects_without_facts_are_counted_and_the_rest_is_written(machines):
    machines.release.dataset("clips", files_of(2))
    rows = [f"{n},file,{machines.release.url(f'clips/{n}.mp4')}" for n in (0, 1, 7)]
    machines.release.manifest("clips", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    words = ("export", machines.file, "--datasets", "clips", "--no-metadata")
    _, err = machines("one", *words, code=ExitCode.PARTIAL)
    assert "not in it: 1 object, refused" in err
    assert machines.report("two", "import", machines.file)["facts"]["added"] == 2


def test_without_the_server_an_export_ends_with_what_to_do(machines):
    machines.release.dataset("clips", files_of(4))
    words = ("export", machines.file, "--datasets", "clips", "--no-metadata")
    machines("one", *words, "--known-only")
    machines.front.stop()
    _, err = machines("one", *words, "--overwrite", code=ExitCode.FAILURE)
    assert "--known-only" in err
    known = machines.report("one", *words, "--overwrite", "--known-only")
    assert known["missing"] == {"unknown": 4}


def test_a_file_is_replaced_only_with_overwrite_and_never_in_part(machines):
    machines.release.dataset("clips", files_of(2))
    file = Path(machines.file)
    file.write_bytes(b"mine")
    words = ("export", machines.file, "--datasets", "clips")
    assert "--overwrite" in machines("one", *words, code=ExitCode.FAILURE)[1]
    assert file.read_bytes() == b"mine"
    machines("one", *words, "--no-metadata", "--overwrite")
    assert file.read_bytes().startswith(b"SQLite format 3\0")
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert [path.name for path in file.parent.iterdir() if "lab" in path.name] == ["lab.sqlite"]
    nowhere = str(file.parent / "absent/lab.sqlite")
    assert "no such directory" in machines("one", "export", nowhere, code=ExitCode.FAILURE)[1]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_that_cannot_be_written_is_an_error(machines, tmp_path):
    machines.release.dataset("clips", files_of(1))
    words = ("export", str(tmp_path), "--datasets", "clips", "--no-metadata", "--overwrite")
    _, err = machines("one", *words, code=ExitCode.FAILURE)
    assert f"{tmp_path} cannot be written: is a directory" in err


def test_refused_rows_are_named_and_counted(machines):
    machines.release.dataset("clips", files_of(SHOWN + 2))
    machines("one", "export", machines.file, "--datasets", "clips", "--no-metadata")
    change(Path(machines.file), "UPDATE facts SET size = 1")
    _, err = machines("two", "import", machines.file, code=ExitCode.PARTIAL)
    url = machines.release.url("clips/0.mp4")
    assert f"refused: facts {url}: its checksum is wrong\n" in err
    assert err.count("refused: ") == SHOWN
    assert "… and 2 more\n" in err
    found = machines.report("two", "import", machines.file, code=ExitCode.PARTIAL)
    assert found["facts"]["refused"] == SHOWN + 2
    assert found["refused"][0] == {"table": "facts", "key": url, "reason": "its checksum is wrong"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "nothing to do"),
        (("exprot", "x"), "there is no operation exprot"),
        (("import",), "no FILE was given"),
        (("import", "x", "--datasets", "clips"), "--datasets: only index export selects"),
        (("import", "x", "--known-only"), "--known-only: only index export selects"),
        (("export", "x", "--datasets", "clips", "--manifest-override-path", "m.csv"), "override"),
    ],
)
def test_wrong_command_lines_are_named(licensee, capsys, words, reason, tmp_path, monkeypatch):
    del licensee
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_bytes(MANIFEST)
    assert main(["index", *words]) == ExitCode.USAGE
    assert reason in capsys.readouterr().err


def test_a_file_from_another_store_is_refused(machines, server, monkeypatch):
    machines.release.dataset("clips", files_of(1))
    machines("one", "export", machines.file, "--datasets", "clips", "--no-metadata")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    _, err = machines("two", "import", machines.file, code=ExitCode.USAGE)
    assert f"exported from {machines.front.url}" in err


def test_the_file_may_follow_a_list_of_names(machines):
    machines.release.dataset("clips", files_of(1))
    machines("one", "export", "--no-metadata", "--datasets", "clips", machines.file)
    assert Path(machines.file).exists()


# --- mounts after an import -----------------------------------------------------------------------


def hand_over(machines: Machines) -> None:
    """Export on one machine, and import on that of the mounts, whose cache is empty."""
    machines("one", "export", machines.file, "--datasets", "clips")
    machines(os.environ["EGO4DFS_CACHE_DIR"], "import", machines.file)
    machines.front.reset()


@pytest.mark.fuse
def test_sizes_are_listed_without_the_server_in_an_empty_cache(machines, mount):
    files = files_of(40)
    machines.release.dataset("clips", files)
    machines.release.metadata(b"{}")
    hand_over(machines)
    machines.front.stop()
    root = mount("--version", machines.release.version, "--datasets", "clips")
    clips = root / machines.release.version / "clips"
    lines = printed("ls", "-l", clips)[1:]
    sizes = {line.split()[-1]: int(line.split()[4]) for line in lines}
    assert sizes.pop("manifest.csv") > 0
    assert sizes == {name: len(data) for name, data in files.items()}
    assert (root / "ego4d.json").stat().st_size == 2
    assert len(printed("find", clips, "-name", "*.mp4", "-size", "-1020c")) == 20
    assert status(root)["bytes_fetched"] == 0
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        (clips / "1.mp4").read_bytes()
    assert caught.value.errno == errno.EIO


def printed(*command: object) -> list[str]:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.fuse
def test_a_listing_of_many_files_after_an_import_sends_no_head(machines, mount):
    machines.release.dataset("clips", files_of(300))
    machines.release.metadata(b"{}")
    hand_over(machines)
    root = mount("--version", machines.release.version, "--datasets", "clips")
    assert len(printed("ls", "-l", root / machines.release.version / "clips")) == 302
    assert [path for _, path, _ in machines.front.log if "/objects/" in path] == []


@pytest.mark.fuse
def test_objects_and_a_manifest_that_were_replaced_since_give_the_new_bytes(machines, mount):
    files = {"same.mp4": b"s" * 1000, "longer.mp4": b"l" * 1000, "equal.mp4": seeded("1", MIB)}
    machines.release.dataset("clips", files)
    machines.release.metadata(b"{}")
    hand_over(machines)
    new = {**files, "longer.mp4": b"L" * 5000, "equal.mp4": seeded("2", MIB), "new.mp4": b"n" * 9}
    machines.release.dataset("clips", new)
    root = mount("--version", machines.release.version, "--datasets", "clips")
    clips = root / machines.release.version / "clips"
    assert sorted(os.listdir(clips)) == sorted(["manifest.csv", *new])
    assert (clips / "longer.mp4").stat().st_size == 1000  # what the file says, until it is opened
    for name, data in new.items():
        assert (clips / name).read_bytes() == data
        assert (clips / name).stat().st_size == len(data)


@pytest.mark.fuse
def test_a_running_mount_finds_the_imported_facts(machines, mount):
    machines.release.dataset("clips", files_of(30))
    machines.release.metadata(b"{}")
    machines("one", "export", machines.file, "--datasets", "clips")
    root = mount("--version", machines.release.version, "--datasets", "clips")
    clips = root / machines.release.version / "clips"
    assert len(os.listdir(clips)) == 31
    machines(os.environ["EGO4DFS_CACHE_DIR"], "import", machines.file)
    machines.front.reset()
    assert len(printed("ls", "-l", clips)) == 32
    assert machines.heads == 0


# --- exports of a store in memory -----------------------------------------------------------------


LONG = f"s3://b/{'x' * 3000}.mp4"


@pytest.fixture
def exported(tmp_path) -> Callable[..., tuple[ExportReport, dict[str, int]]]:
    """Export a manifest; return the report and the sizes in the file."""

    def export(store: CountingStore, content: bytes) -> tuple[ExportReport, dict[str, int]]:
        store.objects[manifest_url(VERSION, DATASET)] = content
        file = tmp_path / "x.sqlite"
        with closing(session_over(store, tmp_path, version=VERSION)) as session:
            exporter = IndexExporter(session, Outage())
            exporter.collect([DATASET], metadata=False, known_only=False)
            exporter.write(file, "test")
        with closing(sqlite3.connect(file)) as database:
            return exporter.report, dict(database.execute("SELECT url, size FROM facts"))

    return export


def test_objects_that_do_not_exist_or_do_not_fit_are_left_out(exported):
    content = MANIFEST + f"c,video,{LONG}\n".encode()
    report, sizes = exported(CountingStore({URL: b"x" * 10, LONG: b"x"}), content)
    assert sizes == {URL: 10}
    assert report.missing == {"missing": 1, "facts: url is out of range": 1}


def test_facts_that_are_not_lasting_are_left_out(exported):
    class NoETags(CountingStore):
        def facts_of(self, url: str) -> ObjectFacts:
            return replace(super().facts_of(url), is_lasting=False)

    report, sizes = exported(NoETags({URL: b"x", OTHER: b"x"}), MANIFEST)
    assert sizes == {}
    assert report.missing == {"without an ETag": 2}


def test_a_manifest_that_cannot_be_cached_is_exported_without_its_etag(
    exported, monkeypatch, tmp_path
):
    monkeypatch.setattr(ManifestCache, "_write", lambda *_: None)
    report, _ = exported(CountingStore({URL: b"x", OTHER: b"x"}), MANIFEST)
    assert report.rows == {"about": 4, "manifests": 1, "facts": 2}
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as database:
        assert database.execute("SELECT etag, content FROM manifests").fetchall() == [
            ("", MANIFEST)
        ]


# --- media facts ----------------------------------------------------------------------------------


GROUPS = MediaFacts(range(4, 10), 30, 300, (0, 120), (0, 3), (3, 10))
MEDIA_ROW = (URL, 10, "e" * 32, 4, 10, 30, 300, GROUPS.packed())


def test_key_frames_that_one_machine_has_read_are_known_on_the_other(machines, open_tree):
    videos = {"a.mp4": media.long_video(20, 0), "b.mp4": media.long_video(20, 1)}
    machines.release.dataset("full_scale", videos)
    words = ("--datasets", "full_scale", "--version", machines.release.version)
    one = str(machines.directory / "one")
    fetch = ["prefetch", "--to", "cache", "--indexes", "-y", "--cache-dir", one]
    assert main([*fetch, *words]) == ExitCode.OK
    machines.capture.readouterr()
    out, _ = machines("one", "export", machines.file, "--datasets", "full_scale", "--no-metadata")
    assert "2 of 2 objects, the key frames of 2 videos, " in out
    assert machines.report("two", "import", machines.file)["media"]["added"] == 2
    assert machines.report("two", "import", machines.file)["media"]["kept"] == 2

    machines.release.dataset("full_scale", {**videos, "b.mp4": media.long_video(20, 3)})
    replaced = {**videos, "b.mp4": media.long_video(20, 3)}
    vfs = open_tree(
        version=machines.release.version,
        datasets=["full_scale"],
        metadata=False,
        cache_dir=str(machines.directory / "two"),
    )
    for name, data in replaced.items():
        facts = MediaFacts.of(read_index(len(data), lambda at, n, data=data: data[at : at + n]))
        handle = vfs.open(f"{machines.release.version}/full_scale/{name}")
        for start, stop in zip(facts.starts, facts.stops, strict=True):
            assert vfs.read(handle, start, stop - start) == data[start:stop]


def test_media_facts_are_added_for_the_version_that_is_known(cache):
    report = cache.take(cache.write(media_rows=[MEDIA_ROW, (OTHER, *MEDIA_ROW[1:])]))
    assert (report.of(MEDIA).added, report.of(MEDIA).kept) == (1, 1)  # OTHER has no facts
    assert list(cache.facts.media.rows([URL, OTHER])) == [MEDIA_ROW]


def test_media_facts_of_this_machine_stay(cache):
    mine = MediaFacts(range(5, 10), 60, 300, (0, 120), (0, 3), (3, 10))
    cache.facts.media.put(URL, 10, "e" * 32, mine)
    report = cache.take(cache.write(media_rows=[MEDIA_ROW]))
    assert report.of(MEDIA).kept == 1
    assert next(cache.facts.media.rows([URL]))[3:6] == (5, 10, 60)


def test_media_facts_of_another_version_are_not_used(cache):
    cache.facts.record(URL, ObjectFacts(10, "f" * 32, "v2", 1))
    assert cache.take(cache.write(media_rows=[MEDIA_ROW])).of(MEDIA).kept == 1
    assert list(cache.facts.media.rows([URL])) == []


BAD_MEDIA = {
    "an object that no manifest lists": ((f"{URL}x", *MEDIA_ROW[1:]), "no manifest"),
    "groups behind the end": ((URL, 9, *MEDIA_ROW[2:]), "not those of a video"),
    "an index behind the end": ((*MEDIA_ROW[:4], 11, *MEDIA_ROW[5:]), "not those of a video"),
    "no time scale": ((*MEDIA_ROW[:5], 0, *MEDIA_ROW[6:]), "not those of a video"),
    "damaged groups": ((*MEDIA_ROW[:7], b"x" * 40), "not those of a video"),
    "a BLOB that is too large": ((*MEDIA_ROW[:7], bytes(5 << 20)), "key_frames is out of range"),
}


@pytest.mark.parametrize("name", BAD_MEDIA)
def test_media_facts_that_cannot_be_right_are_refused(cache, name):
    row, reason = BAD_MEDIA[name]
    report = cache.take(cache.write(media_rows=[row]))
    [refused] = report.refused
    assert reason in refused.reason
    assert list(cache.facts.media.rows([URL, OTHER])) == []


def test_there_is_a_limit_of_groups(cache, monkeypatch):
    monkeypatch.setattr("ego4dfs.index_file.importer.MAX_GROUPS", 1)
    facts = [FACT, (OTHER, *FACT[1:])]
    report = cache.take(cache.write(None, facts, [MEDIA_ROW, (OTHER, *MEDIA_ROW[1:])]))
    assert (report.of(MEDIA).added, report.of(MEDIA).refused) == (1, 1)


# --- rows, one by one -----------------------------------------------------------------------------


@dataclass
class Cache:
    """A cache of one source, without a server, and imports into it."""

    directory: Path

    def __post_init__(self) -> None:
        self.store = CountingStore()
        self.root = source_directory(prepare_directory(self.directory / "c"), self.store.source)
        self.manifests = ManifestCache(self.root, self.store)
        self.facts = FactsIndex(self.root, self.store)

    def write(
        self,
        manifests: list[tuple] | None = None,
        facts: list[tuple] | None = None,
        media_rows: list[tuple] | None = None,
    ) -> Path:
        """Write an index file, by default with one manifest and the facts of one object."""
        rows = {
            MANIFESTS: [ROW] if manifests is None else manifests,
            FACTS: [FACT] if facts is None else facts,
            MEDIA: media_rows or [],
        }
        return write_index(self.directory / "x.sqlite", self.store.source, rows)

    def take(self, file: Path) -> ImportReport:
        """Import a file."""
        with closing(IndexReader(file)) as reader:
            importer = IndexImporter(reader, self.manifests, self.facts)
            importer.run(self.store.source)
        return importer.report

    @property
    def manifest(self) -> CachedManifest | None:
        """What is cached."""
        return self.manifests.cached(VERSION, DATASET)


@pytest.fixture
def cache(tmp_path) -> Cache:
    made = Cache(tmp_path)
    yield made
    made.facts.close()


def test_a_row_is_added_and_its_size_is_not_confirmed(cache):
    report = cache.take(cache.write())
    assert report.refused == []
    found = cache.facts.peek(URL)
    assert found == ObjectFacts(*FACT[1:])
    assert not found.has_confirmed_size
    assert cache.manifest == CachedManifest(MANIFEST, ETAG, TIME_NS)
    assert cache.store.heads == cache.store.reads == []


def test_a_size_of_zero_is_asked_of_the_store(cache):
    """An object without bytes is never fetched, so nothing would show that it has some."""
    report = cache.take(cache.write(facts=[(URL, 0, *FACT[2:])]))
    assert (report.of(FACTS).added, report.of(FACTS).kept, report.refused) == (0, 1, [])
    assert cache.facts.peek(URL) is None


def test_facts_and_refusals_of_this_machine_stay(cache):
    mine = ObjectFacts(99, "f" * 32, "v2", 1)
    cache.facts.record(URL, mine)
    with pytest.raises(ObjectMissing):
        cache.facts.get(OTHER)
    report = cache.take(cache.write(facts=[FACT, (OTHER, *FACT[1:])]))
    assert (report.of(FACTS).added, report.of(FACTS).kept) == (0, 2)
    assert cache.facts.peek(URL) == mine
    assert cache.facts.peek(OTHER) is None


def test_facts_that_another_process_records_meanwhile_stay(cache, monkeypatch):
    mine = ObjectFacts(99, "f" * 32, "v2", 1)
    other = FactsIndex(cache.root, cache.store)
    refused = cache.facts._refused

    def recorded_meanwhile(kept_s: float) -> set[str]:
        other.record(URL, mine)
        return refused(kept_s)

    monkeypatch.setattr(cache.facts, "_refused", recorded_meanwhile)
    report = cache.take(cache.write())
    other.close()
    assert (report.of(FACTS).added, report.of(FACTS).kept) == (0, 1)
    assert cache.facts.peek(URL) == mine


@pytest.mark.parametrize(("mtime_ns", "is_replaced"), [(TIME_NS - 1, True), (TIME_NS, False)])
def test_only_a_newer_manifest_replaces_the_cached_one(cache, mtime_ns, is_replaced):
    mine = CachedManifest(MANIFEST + b"c,video,s3://b/c.mp4\n", "", mtime_ns)
    assert cache.manifests.add(VERSION, DATASET, mine)
    report = cache.take(cache.write())
    assert report.of(MANIFESTS).added == is_replaced
    assert cache.manifest.content == (MANIFEST if is_replaced else mine.content)
    assert report.of(FACTS).added == 1


def test_an_imported_manifest_is_revalidated_at_its_first_use(cache):
    url = manifest_url(VERSION, DATASET)
    cache.store.objects[url] = MANIFEST
    cache.take(cache.write())
    assert cache.manifests.fetch(VERSION, DATASET).content == MANIFEST
    assert cache.store.reads == [url]
    cache.store.objects[url] = newer = MANIFEST + b"c,video,s3://b/c.mp4\n"
    assert cache.manifests.fetch(VERSION, DATASET).content == newer


def test_a_manifest_whose_etag_is_not_proven_is_fetched_again(cache):
    """A wrong one with the ETag of the right one would count as unchanged for ever."""
    url = manifest_url(VERSION, DATASET)
    cache.store.objects[url] = newer = MANIFEST + b"c,video,s3://b/c.mp4\n"
    cache.take(cache.write(manifests=[(VERSION, DATASET, "", TIME_NS, MANIFEST)]))
    assert cache.manifest.content == MANIFEST
    assert cache.manifests.fetch(VERSION, DATASET).content == newer


BAD_FACTS = {
    "an object that no manifest lists": ((f"{URL}x", *FACT[1:]), "no manifest"),
    "a negative size": ((URL, -1, *FACT[2:]), "size is out of range"),
    "an impossible size": ((URL, 1 << 51, *FACT[2:]), "size is out of range"),
    "a size that is text": ((URL, "x", *FACT[2:]), "size is no INTEGER"),
    "a size that is a fraction": ((URL, 1.5, *FACT[2:]), "size is no INTEGER"),
    "no ETag": ((URL, 10, "", *FACT[3:]), "etag is not one"),
    "an ETag with a quote": ((URL, 10, 'a"', *FACT[3:]), "etag is not one"),
    "an ETag with a line end": ((URL, 10, "a\nX: y", *FACT[3:]), "etag is not one"),
    "an ETag that is not ASCII": ((URL, 10, "\u00e9", *FACT[3:]), "etag is not one"),
    "an ETag that is a BLOB": ((URL, 10, b"e", *FACT[3:]), "etag is no TEXT"),
    "a long ETag": ((URL, 10, "e" * 2000, *FACT[3:]), "etag is out of range"),
    "an unprintable version": ((URL, 10, "e", "\x1b[2J", TIME_NS), "version_id has"),
    "a time before 1970": ((*FACT[:4], -1), "mtime_ns is out of range"),
    "a long URL": (("s3://b/" + "x" * 3000, *FACT[1:]), "url is out of range"),
}


@pytest.mark.parametrize("name", BAD_FACTS)
def test_facts_that_cannot_be_right_are_refused_and_the_others_are_added(cache, name):
    row, reason = BAD_FACTS[name]
    report = cache.take(cache.write(facts=[row, (OTHER, *FACT[1:])]))
    [refused] = report.refused
    assert reason in refused.reason
    assert (report.of(FACTS).added, report.of(FACTS).refused) == (1, 1)
    assert cache.facts.peek(URL) is None
    assert cache.facts.peek(OTHER) is not None


def test_a_url_that_no_store_accepts_is_refused(cache):
    url = "s3://b@elsewhere/a.mp4"
    content = f"video_uid,type,s3_path\na,video,{url}\n".encode()
    report = cache.take(cache.write([(*ROW[:2], "", TIME_NS, content)], [(url, *FACT[1:])]))
    assert "is not an s3://bucket/key URL" in report.refused[0].reason
    assert report.of(FACTS).added == 0


BAD_MANIFESTS = {
    "a web page": ((*ROW[:2], "", TIME_NS, b"<html></html>"), "a web page"),
    "another ETag": ((*ROW[:2], "0" * 32, TIME_NS, MANIFEST), "do not agree with its ETag"),
    "a way out of the cache": ((VERSION, "../../x", *ROW[2:]), "cannot be the name"),
    "an absolute path": ((VERSION, "/etc", *ROW[2:]), "cannot be the name"),
    "another spelling": ((VERSION, "Clips/", *ROW[2:]), "is not the name of a dataset"),
    "no version": (("../v9", *ROW[1:]), "is not a version"),
    "a long name": ((VERSION, "\u00e9" * 200, *ROW[2:]), "File name too long"),
    "text for bytes": ((*ROW[:4], "x"), "content is no BLOB"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_manifests_that_cannot_be_right_are_refused(cache, name):
    row, reason = BAD_MANIFESTS[name]
    before = files_below(cache.directory)
    report = cache.take(cache.write(manifests=[row]))
    assert reason in report.refused[0].reason
    assert (report.of(MANIFESTS).added, report.of(MANIFESTS).refused) == (0, 1)
    assert "no manifest" in report.refused[1].reason  # the facts
    assert cache.manifest is None
    assert {*files_below(cache.directory)} - {*before} <= {"x.sqlite"}


def files_below(directory: Path) -> list[str]:
    """Return the files, without those of SQLite's log, which come and go."""
    found = (path for path in directory.rglob("*") if path.is_file() and "-" not in path.suffix)
    return sorted(str(path.relative_to(directory)) for path in found)


def test_there_is_a_limit_of_manifests(cache, monkeypatch):
    monkeypatch.setattr("ego4dfs.index_file.importer.MAX_MANIFESTS", 3)
    report = cache.take(cache.write(manifests=[(VERSION, f"d{n}", *ROW[2:]) for n in range(5)]))
    assert (report.of(MANIFESTS).added, report.of(MANIFESTS).refused) == (3, 2)
    assert MAX_MANIFESTS >= 100


def test_a_row_that_was_damaged_on_its_way_is_refused(cache):
    file = cache.write()
    change(file, "UPDATE facts SET size = 11", "UPDATE manifests SET mtime_ns = 5")
    reasons = {row.table: row.reason for row in cache.take(file).refused}
    assert reasons["manifests"] == "its checksum is wrong"
    assert reasons["facts"] == "its checksum is wrong"
    assert cache.facts.peek(URL) is None


def test_many_refused_rows_are_counted_and_the_first_are_named(cache):
    facts = [(f"s3://b/{number}", *FACT[1:]) for number in range(100)]
    report = cache.take(cache.write(facts=facts))
    assert report.of(FACTS).refused == 100
    assert len(report.refused) == SHOWN


def test_a_table_that_an_older_program_did_not_write_is_empty(cache):
    file = write_index(cache.directory / "x.sqlite", cache.store.source, {MANIFESTS: [ROW]})
    report = cache.take(file)
    assert (report.of(MANIFESTS).added, report.of(FACTS).added) == (1, 0)


def test_tables_that_are_not_known_are_ignored(cache):
    file = cache.write()
    change(file, "CREATE TABLE later (url TEXT)", "CREATE VIEW shown AS SELECT url FROM facts")
    assert cache.take(file).of(FACTS).added == 1


def test_a_locked_cache_is_an_error_that_names_it(cache, monkeypatch):
    monkeypatch.setattr("ego4dfs.facts.table.INSERT_WAIT_S", 0.2)
    with closing(sqlite3.connect(cache.root / "facts.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="cannot be written: database is locked"):
            cache.take(cache.write())


# --- files that are no index files, or hostile ones -----------------------------------------------


def refusal(file: Path) -> str:
    """Return the message of the error that a file causes before any row is read."""
    with pytest.raises(ConfigError) as caught, closing(IndexReader(file)) as reader:
        list(reader.rows(FACTS))
    return str(caught.value)


def test_other_files_are_named(tmp_path):
    file = tmp_path / "x"
    assert "no such file" in refusal(file)
    for content in (b"", b"SQLite format 3\0", b"x" * 5000):
        file.write_bytes(content)
        assert "is not an index file" in refusal(file)
    with closing(sqlite3.connect(tmp_path / "other")) as database:
        database.execute("CREATE TABLE facts (url TEXT)")
    assert "is not an index file" in refusal(tmp_path / "other")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        assert "is not a regular file" in refusal(path)


def test_a_file_that_is_removed_meanwhile_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ego4dfs.index_file.reader._checked_size", lambda _path: 5000)
    assert "cannot be read: unable to open database file" in refusal(tmp_path / "x")


def test_another_format_and_a_file_that_is_too_large_are_named(cache):
    file = cache.write()
    os.truncate(file, (4 << 30) + 1)
    assert "larger than 4.0 GiB" in refusal(file)
    os.truncate(file, 1 << 20)
    change(file, "PRAGMA user_version = 2")
    assert "update ego4dfs" in refusal(file)


SCHEMAS = {
    "a view": ["CREATE VIEW facts AS SELECT * FROM moved"],
    "a generated column": [
        "CREATE TABLE facts (url, size AS (hex(zeroblob(1 << 29))), etag, version_id, checksum)"
    ],
    "a virtual table": ["CREATE VIRTUAL TABLE facts USING fts5(url)"],
    "no types": ["CREATE TABLE facts AS SELECT * FROM moved"],
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_only_real_tables_of_the_documented_schema_are_read(cache, name):
    file = cache.write()
    change(file, "ALTER TABLE facts RENAME TO moved", *SCHEMAS[name])
    assert "its table facts is not that of an index file" in refusal(file)


def test_a_trigger_is_not_executed(cache):
    file = cache.write()
    change(file, "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM manifests; END")
    before = file.read_bytes()
    assert cache.take(file).of(FACTS).added == 1
    assert file.read_bytes() == before
    assert not file.with_name("x.sqlite-journal").exists()


def test_pages_that_are_repeated_without_end_are_read_in_bounded_time(cache):
    """Read in full, the file would have more rows than there are seconds in a million years."""
    file = cache.write(facts=[(f"s3://b/{n:05}", *FACT[1:]) for n in range(20_000)])
    with closing(IndexReader(repeated(file, levels=8))) as reader:
        reader._steps_left, reader._bytes_left = 10**6, 10**9
        rows = list(reader.rows(FACTS))
    assert isinstance(rows[-1], BadRow)
    assert "interrupted" in rows[-1].reason
    assert len(rows) < 10**6


def test_a_file_gives_at_most_as_many_bytes_as_it_has(cache):
    file = cache.write(facts=[(f"s3://b/{n:05}", *FACT[1:]) for n in range(20_000)])
    with closing(IndexReader(repeated(file, levels=8))) as reader:
        reader._bytes_left = 10**5
        rows = list(reader.rows(FACTS))
    assert "repeats parts of itself" in rows[-1].reason
    assert len(rows) < 10**5


def repeated(file: Path, *, levels: int) -> Path:
    """Add pages to the tree of `facts`, each with the next one as all of its children."""
    with closing(sqlite3.connect(file)) as database:
        [(page_bytes,)] = database.execute("PRAGMA page_size")
        [(root,)] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'facts'")
    content = file.read_bytes()
    pages = [content[at : at + page_bytes] for at in range(0, len(content), page_bytes)]
    interior = max((page for page in pages[1:] if page[0] == 2), key=cell_count)
    assert cell_count(interior) > 20
    last, count = child_of(interior), len(pages)
    pages += [with_child(interior, count + level + 2) for level in range(levels - 1)]
    pages.append(with_child(interior, last))
    pages[root - 1] = with_child(pages[root - 1], count + 1)
    pages[0] = pages[0][:28] + len(pages).to_bytes(4, "big") + pages[0][32:]
    file.write_bytes(b"".join(pages))
    return file


def cell_count(page: bytes) -> int:
    return int.from_bytes(page[3:5], "big")


def child_of(page: bytes) -> int:
    """Return the rightmost child of an interior page."""
    return int.from_bytes(page[8:12], "big")


def with_child(page: bytes, child: int) -> bytes:
    """Return an interior page all of whose children are one page."""
    starts = (page[at : at + 2] for at in range(12, 12 + 2 * cell_count(page), 2))
    changed = bytearray(page)
    for at in (8, *(int.from_bytes(start, "big") for start in starts)):
        changed[at : at + 4] = child.to_bytes(4, "big")
    return bytes(changed)


def test_a_file_that_is_cut_is_an_error(cache):
    file = cache.write(facts=[(f"s3://b/{n:05}", *FACT[1:]) for n in range(20_000)])
    os.truncate(file, file.stat().st_size * 3 // 4)
    assert "cannot be read: database disk image is malformed" in refusal(file)


def test_a_file_with_a_damaged_page_gives_what_can_be_read(cache):
    facts = [(f"s3://b/{n:05}", *FACT[1:]) for n in range(20_000)]
    rows = "".join(f"{n},video,{row[0]}\n" for n, row in enumerate(facts)).encode()
    manifest = b"video_uid,type,s3_path\n" + rows
    file = cache.write([(VERSION, DATASET, "", TIME_NS, manifest)], facts)
    content = bytearray(file.read_bytes())
    at = content.index(b"s3://b/15000\ne") // 4096 * 4096
    content[at : at + 4096] = bytes(4096)
    file.write_bytes(content)
    counts = cache.take(file).of(FACTS)
    assert counts.refused == 1
    assert 10_000 < counts.added < 15_000
    assert cache.facts.totals()[0] == counts.added


def test_an_import_reads_a_file_that_cannot_be_written(cache, tmp_path):
    place = tmp_path / "read-only"
    place.mkdir()
    file = Path(shutil.copy(cache.write(), place / "x.sqlite"))
    file.chmod(0o400)
    place.chmod(0o500)
    try:
        assert cache.take(file).of(FACTS).added == 1
    finally:
        place.chmod(0o700)
    assert os.listdir(place) == ["x.sqlite"]


def test_about_is_of_the_file(cache):
    file = cache.write()
    change(file, "UPDATE about SET value = 'elsewhere'")
    reseal(file, ABOUT)
    with pytest.raises(ConfigError, match="exported from elsewhere, and this is memory"):
        cache.take(file)
    assert metadata_url(VERSION) not in cache.facts.peek_many([metadata_url(VERSION)])
