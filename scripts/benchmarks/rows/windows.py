"""Windows as files: two seconds of a video through `Ego4D.window`, and through virtual clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks import mount_video, mounts, peers, window_reads
from benchmarks.filled_caches import CACHED, IMPORTED, Fill, with_import, with_indexes
from benchmarks.goals import at_most
from benchmarks.measure import Metered
from benchmarks.mount_reads import Reading, measured
from benchmarks.mount_video import WINDOW_S, Films, waits_ms, window
from benchmarks.mounts import OBJECTS, OURS, Mounted, cold
from benchmarks.row import Column, Contender, Row, Sample
from benchmarks.servers import Servers
from benchmarks.window_reads import Job, Window, job
from ego4dfs.demo.videos import CONSORTIUM

FILMS = 4
_WINDOW = "Ego4D.window"
_IMPORTED = f"{_WINDOW}, {IMPORTED}"
_CLIP = f"{OURS}, virtual clip"
_CACHED = f"{_CLIP}, {CACHED}"
_COSTS = (
    Column("window_mib", "MiB on the wire/window", digits=1),
    Column("fetched", "fetched ÷ needed"),
    Column("cpu_s", "CPU s"),
    Column("peak_mib", "peak MiB", digits=0),
    Column("requests", "requests", digits=0),
)


@contextmanager
def _url(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "film_front", FILMS, mount_video.LONG)
    needed = mount_video.needed_bytes(films)
    windows = [(uid, at, 0) for uid, at in zip(films.uids, films.begins_s, strict=True)]
    keys = [(f"{CONSORTIUM}/{OBJECTS}/{films.dataset}/{uid}", at, 0) for uid, at, _ in windows]

    def ours(name: str, needed: int, fill: Fill | None) -> Contender:
        wanted = job(films, _WINDOW, windows, first_uid=films.uids[0], datasets=[films.dataset])
        return Contender(name, partial(_in_a_process, servers, films, wanted, needed, fill))

    windows_only = mount_video.needed_bytes(films, with_index=False)
    imported = with_import(servers, films.dataset, key_frames=True)
    yield [
        ours(_WINDOW, needed, None),
        ours(f"{_WINDOW}, {CACHED}", windows_only, with_indexes(servers, films.dataset)),
        ours(_IMPORTED, needed, imported),
        Contender(
            "s3fs, the Python package",
            partial(_in_a_process, servers, films, job(films, "s3fs", keys), needed),
        ),
    ]


def _in_a_process(
    servers: Servers,
    films: Films,
    wanted: Job,
    needed: int,
    fill: Fill | None = None,
) -> Sample:
    """Let a process decode the windows of its job, which need so many bytes."""
    cache_dir = servers.empty("cache")
    if fill is not None:
        fill(cache_dir)
    waits: list[float] = []
    with window_reads.started(servers, [wanted]) as running:

        def work() -> Reading:
            (answer,) = running.work()
            waits.extend(answer["seconds"])
            return Reading(sum(waits), needed)

        found = measured(Metered(servers, "wan", running.pids[0]), work)
    servers.empty("cache")
    plain = [window(films.local, films.clip, begin_s) for begin_s in films.begins_s]
    return found | waits_ms(waits, plain) | _mib_a_window(found, len(waits))


@contextmanager
def _decord(servers: Servers) -> Iterator[Sequence[Contender]]:
    films = mount_video.publish(servers, "film_front", FILMS, mount_video.LONG)
    needed = mount_video.needed_bytes(films)

    def clips(mount: Mounted, needed: int) -> Sample:
        below = mount.root / ".ego4dfs/windows"
        windows = [
            (str(below / uid / f"{at}-{at + WINDOW_S}.mp4"), at, at)
            for uid, at in zip(films.uids, films.begins_s, strict=True)
        ]
        return _with_decord(servers, mount, films, windows, needed)

    def whole(mount: Mounted) -> Sample:
        """Read one window of the whole video: one takes as long as four clips."""
        windows = [(str(mount.path(films.names[0])), films.begins_s[0], 0)]
        return _with_decord(servers, mount, films, windows, needed // FILMS)

    ours, *others = mounts.tools()
    windows_only = mount_video.needed_bytes(films, with_index=False)
    through = partial(cold, servers, "wan", films.dataset)
    contenders = [
        *through(partial(clips, needed=needed), mounters=[replace(ours, name=_CLIP)]),
        *through(
            partial(clips, needed=windows_only),
            mounters=[replace(ours, name=_CACHED)],
            fill=with_indexes(servers, films.dataset),
        ),
        *through(
            whole, mounters=[replace(m, name=f"{m.name}, whole video") for m in (ours, *others)]
        ),
    ]
    yield [replace(c, missing=c.missing or peers.decord_missing()) for c in contenders]


def _with_decord(
    servers: Servers, mount: Mounted, films: Films, windows: Sequence[Window], needed: int
) -> Sample:
    waits: list[float] = []
    list(mount.files.iterdir())
    wanted = job(films, "decord", windows)
    with window_reads.started(servers, [wanted]) as running:

        def work() -> Reading:
            (answer,) = running.work()
            waits.extend(answer["seconds"])
            return Reading(sum(waits), needed)

        found = measured(mount, work)
    return found | {"wait_ms": median(waits) * 1e3} | _mib_a_window(found, len(waits))


def _mib_a_window(found: Sample, count: int) -> dict[str, float]:
    return {"window_mib": found["wire_mib"] / count}


_OF = f"{WINDOW_S} s of a video of {mount_video.LONG.duration_s} s"
ROWS = (
    Row(
        "window-url",
        "window",
        f"decode {_OF} from Ego4D.window with PyAV, {FILMS} cold files, distant server",
        (
            Column("above_ms", "ms above a local file", digits=0, spread=True),
            Column("wait_ms", "ms", digits=0),
            *_COSTS,
        ),
        _url,
        needs_wan=True,
        goals=[
            at_most(
                "after an import less than two round trips of 30 ms above a local file",
                "above_ms",
                60,
                _IMPORTED,
            ),
            at_most("after an import at most 1.3 × what is needed", "fetched", 1.3, _IMPORTED),
        ],
    ),
    Row(
        "window-decord",
        "window",
        f"decode {_OF} with decord, which reads whole files, {FILMS} cold files "
        "(whole videos: one), distant server",
        (Column("wait_ms", "ms", digits=0, spread=True), *_COSTS),
        _decord,
        needs_wan=True,
        goals=[
            at_most("at most 1.5 × what is needed", "fetched", 1.5),
            at_most(
                "with the indexes cached at most 1.5 × what is needed", "fetched", 1.5, _CACHED
            ),
        ],
    ),
)
