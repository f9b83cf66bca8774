"""One reader of one large file: cold, from the tool's cache, and from the kernel's pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from benchmarks import mounts, samples
from benchmarks.goals import MEMORY, at_least, at_least_times, at_most_times, times_as_good
from benchmarks.mount_reads import MIB, RATE, measured, of_reading, read
from benchmarks.mounts import Mounted, Mounter, mounted, side_by_side
from benchmarks.row import Contender, Row, Sample
from benchmarks.servers import Servers

COLD_BYTES = 1024 * MIB
WARM_BYTES = 512 * MIB
_Prepare = Callable[[Servers], AbstractContextManager[Sequence[Contender]]]
LOCAL = "local file"
_SLOW = {"rclone mount": 2}
_LIBFUSE2_RATE = 1.8e9 / MIB


def _cold(shape: str) -> _Prepare:
    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        videos = samples.publish(servers, "mount_one", 1, COLD_BYTES)

        def run(mounter: Mounter) -> Sample:
            cache_dir = servers.empty("cache")
            with mounted(mounter, servers, shape, videos.name, cache_dir) as mount:
                (content,) = videos.contents
                path = mount.path(content.name)
                found = measured(mount, lambda: read([[path]]))
                content.check(path)
            servers.empty("cache")
            return found

        tools = (mounts.ego4dfs(), mounts.s3fs(), mounts.rclone())
        yield [Contender(t.name, partial(run, t), t.tool.missing, _SLOW.get(t.name)) for t in tools]

    return prepare


def _warm(*, evict: bool) -> _Prepare:
    """Mount all tools side by side over filled caches; `evict` drops the kernel's pages."""

    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        videos = samples.publish(servers, "mount_one", 1, COLD_BYTES)
        (content,) = videos.contents
        with ExitStack() as stack:
            stack.callback(servers.empty, "local")
            local = servers.empty("local") / content.name
            content.write(local)
            tools = [mounts.ego4dfs(), mounts.ego4dfs("2"), mounts.s3fs(), mounts.rclone()]
            tools += [] if evict else [mounts.bindfs(local.parent)]

            def run(mount: Mounted) -> Sample:
                path = mount.path(content.name)
                found = measured(mount, lambda: read([[path]], limit=WARM_BYTES, evict=evict))
                content.check(path, WARM_BYTES)
                return found

            contenders = []
            for tool, mount in side_by_side(stack, servers, tools, videos.name):
                if mount:
                    read([[mount.path(content.name)]], limit=WARM_BYTES)
                act = partial(run, mount) if mount else dict
                contenders.append(Contender(tool.name, act, tool.tool.missing))
            plain = Contender(LOCAL, lambda: of_reading(read([[local]], limit=WARM_BYTES)))
            yield [*contenders, plain]

    return prepare


_EGO4DFS_2 = "ego4dfs mount, libfuse 2"
_COLD = {"wan": ("distant", 1.1, 4.0), "lan": ("near", 0.95, 2.5)}
_CPU = at_most_times("CPU at most 1.5 × s3fs-fuse's", "cpu_s_gib", 1.5, "s3fs-fuse")
ROWS = (
    *(
        Row(
            f"mount-cold-{shape}",
            "mount",
            f"read 1 GiB from beginning to end, cold, {words} server",
            RATE,
            _cold(shape),
            needs_wan=shape == "wan",
            goals=[
                times_as_good("s3fs-fuse", s3fs),
                times_as_good("rclone mount", rclone),
                _CPU,
                MEMORY,
            ],
        )
        for shape, (words, s3fs, rclone) in _COLD.items()
    ),
    Row(
        "mount-warm",
        "mount",
        "read 512 MiB from the tool's cache, page cache dropped",
        RATE,
        _warm(evict=True),
        goals=[
            times_as_good("s3fs-fuse"),
            times_as_good("rclone mount", 3),
            at_least("at least 1.8 GB/s with libfuse 2", "rate", _LIBFUSE2_RATE, _EGO4DFS_2),
            MEMORY,
        ],
    ),
    Row(
        "mount-pages",
        "mount",
        "read 512 MiB again, from the page cache",
        RATE,
        _warm(evict=False),
        goals=[
            at_least_times("at least 0.9 × s3fs-fuse's", "rate", 0.9, "s3fs-fuse"),
            at_least_times("at least 0.9 × that of bindfs, in C", "rate", 0.9, mounts.BINDFS),
        ],
    ),
)
