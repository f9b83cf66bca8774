"""Copies to an empty disk by `ego4dfs prefetch` and other download tools."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from benchmarks import measure, samples
from benchmarks.copiers import RCLONE_AS_LICENSEE, STREAMS, Copier, copiers
from benchmarks.goals import times_as_good
from benchmarks.row import Contender, Row, Sample
from benchmarks.samples import Dataset
from benchmarks.servers import Servers

_SMALL_FILES, _SMALL_BYTES = 1_200, 70_000_000
_VIDEOS, _VIDEO_BYTES = 10, 70_000_000
_SHAPES = {"lan": "near", "wan": "distant"}
_SLOW = {"official ego4d": 2}  # rounds; the official tool needs half a minute for small files
_Prepare = Callable[[Servers], AbstractContextManager[Sequence[Contender]]]


def _small(servers: Servers) -> Dataset:
    rng = random.Random("sizes")
    shares = [rng.paretovariate(1.5) for _ in range(_SMALL_FILES)]
    sizes = [int(share / sum(shares) * _SMALL_BYTES) for share in shares]
    return samples.publish_files(servers.s3, "omnivore_video_swinl_fp16", sizes)


def _videos(servers: Servers) -> Dataset:
    sizes = [_VIDEO_BYTES] * _VIDEOS
    return samples.publish_videos(servers.s3, "full_scale", sizes, servers.empty("scratch"))


def _copies(shape: str, publish: Callable[[Servers], Dataset]) -> _Prepare:
    """Return the `prepare` of a row in which each tool copies a dataset to an empty directory."""

    @contextmanager
    def prepare(servers: Servers) -> Iterator[Sequence[Contender]]:
        samples.publish_metadata(servers.s3)
        dataset = publish(servers)

        def copy(copier: Copier) -> Sample:
            out = servers.empty("out")
            environment = copier.environment(servers, shape, servers.empty("cache"))
            found = measure.sample(servers, shape, copier.command(dataset, out), environment)
            dataset.check(out, object_names=copier.object_names)
            return found

        yield [
            Contender(c.name, partial(copy, c), c.tool.missing, _SLOW.get(c.name))
            for c in copiers()
        ]

    return prepare


_AS_FAST = (
    times_as_good("rclone copy"),
    times_as_good(f"rclone copy --transfers {STREAMS}"),
    times_as_good("aws s3 sync"),
)
"""These tools list, which a licensee may not; the goals of the row come before them."""
ROWS = (
    *(
        Row(
            f"prefetch-small-{shape}",
            "prefetch",
            f"copy 1,200 small files, 70 MB, {words} server",
            measure.COLUMNS,
            _copies(shape, _small),
            needs_wan=shape == "wan",
            goals=[
                times_as_good("official ego4d", 10),
                times_as_good(RCLONE_AS_LICENSEE, 1.5),
                *_AS_FAST,
            ],
        )
        for shape, words in _SHAPES.items()
    ),
    *(
        Row(
            f"prefetch-videos-{shape}",
            "prefetch",
            f"copy 10 videos, 700 MB, {words} server",
            measure.COLUMNS,
            _copies(shape, _videos),
            needs_wan=shape == "wan",
            goals=[times_as_good("official ego4d"), times_as_good(RCLONE_AS_LICENSEE), *_AS_FAST],
        )
        for shape, words in _SHAPES.items()
    ),
)
