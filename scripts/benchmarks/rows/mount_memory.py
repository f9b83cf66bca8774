"""Many streams at once by a mount that may use little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import mounts, samples
from benchmarks.cgroups import memory_cgroup
from benchmarks.goals import at_least_times
from benchmarks.mount_reads import MIB, RATE
from benchmarks.mounts import OURS, Mounter, mounted
from benchmarks.row import Contender, Row, Sample
from benchmarks.rows.mount_together import read_different
from benchmarks.servers import Servers

_STREAMS = 64
_FILE_BYTES = 16 * MIB
_LIMIT_BYTES = 256 * MIB
_ON_DISK = Path("/var/tmp")  # noqa: S108 - kept over reboots, so it is never a tmpfs
_BOUNDED = f"{OURS}, cgroup of {_LIMIT_BYTES // MIB} MiB"


@contextmanager
def _prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
    videos = samples.publish(servers, "mount_streams", _STREAMS, _FILE_BYTES)
    ours = mounts.ego4dfs()

    def run(mounter: Mounter, check: Callable[[], None]) -> Sample:
        # Not in memory, as other rows: the pages of a tmpfs count as memory of the mount.
        with (
            TemporaryDirectory(dir=_ON_DISK) as cache_dir,
            mounted(mounter, servers, "wan", videos.name, Path(cache_dir)) as mount,
        ):
            found = read_different(mount, videos, _STREAMS)
            check()
            return found

    with ExitStack() as stack:
        free = Contender(OURS, lambda: run(ours, lambda: None), ours.tool.missing)
        try:
            cgroup = stack.enter_context(memory_cgroup(_LIMIT_BYTES))
        except OSError as error:
            yield [Contender(_BOUNDED, dict, f"missing: no memory cgroup: {error}"), free]
            return
        bounded = replace(ours, name=_BOUNDED, tool=cgroup.holding(ours.tool))
        yield [Contender(_BOUNDED, lambda: run(bounded, cgroup.check), ours.tool.missing), free]


ROWS = (
    Row(
        "mount-memory",
        "mount",
        f"{_STREAMS} processes read {_STREAMS} files of {_FILE_BYTES // MIB} MiB, "
        "cold, distant server; the mount may use little memory",
        RATE,
        _prepare,
        needs_wan=True,
        goals=[at_least_times("at least 0.9 × the unbounded speed", "rate", 0.9, OURS)],
    ),
)
