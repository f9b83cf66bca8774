"""Pictures of a summary: hit rate and bytes over time, and the access pattern of each dataset."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ego4dfs.access_patterns import PATTERNS
from ego4dfs.errors import ConfigError
from ego4dfs.report.summary import Step, Summary, merged
from ego4dfs.text import printable

_STEPS = 120
_COLOURS = ("#00798c", "#8d6a9f", "#edae49", "#d1495b")
_MIB = 1 << 20


def draw(found: Summary, directory: Path) -> list[Path]:
    """Write `over-time.png` and `patterns.png` into a directory, which is created; return them.

    Raises ConfigError without matplotlib, and OSError.
    """
    try:
        # Imported late: it is an extra.
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError as error:
        text = "--plots needs matplotlib, which is not installed"
        raise ConfigError(text, hint="pip install 'ego4dfs[report]'") from error
    directory.mkdir(parents=True, exist_ok=True)
    # Names of datasets are no formulas, and no window is opened.
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        return [
            _saved(directory / "over-time.png", _over_time, found, 3),
            _saved(directory / "patterns.png", _patterns, found, 1),
        ]


def _saved(path: Path, plot: Any, found: Summary, rows: int) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 1 + 1.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    plot(found, figure.subplots(rows, squeeze=False)[:, 0])
    figure.savefig(path, dpi=110)
    return path


def _over_time(found: Summary, panels: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415

    steps = merged(found.steps, _STEPS)
    times = [datetime.fromtimestamp(step.time_s, timezone.utc) for step in steps]
    rates, volumes, caches = panels
    known = [(at, step.hit_rate) for at, step in zip(times, steps, strict=True)]
    known = [(at, rate) for at, rate in known if rate is not None]
    rates.plot([at for at, _ in known], [100 * (rate or 0) for _, rate in known], ".-")
    rates.set(ylabel="hits, %", ylim=(-5, 105))
    for name, label in (("bytes_served", "read"), ("bytes_fetched", "fetched")):
        sizes = [step.counters[name] / _MIB for step in steps]
        volumes.plot(times, sizes, ".-", label=label)
    volumes.set(ylabel="MiB")
    volumes.legend()
    _draw_cache(caches, times, steps)
    for panel in panels:
        panel.grid(color="#dddddd")
        panel.sharex(rates)
    caches.set(xlabel="time, UTC")
    caches.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))


def _draw_cache(panel: Any, times: list[datetime], steps: list[Step]) -> None:
    panel.plot(times, [step.cache_bytes / _MIB for step in steps], ".-", label="cache")
    panel.plot(times, [step.cache_limit_bytes / _MIB for step in steps], "--", label="its limit")
    panel.set(ylabel="MiB", ylim=(0, None))
    panel.legend()


def _patterns(found: Summary, panels: Any) -> None:
    (panel,) = panels
    sizes = {name: 0 for name, _ in found.bytes}
    for (name, _), size in found.bytes.items():
        sizes[name] += size
    names = sorted(sizes, key=lambda name: sizes[name])
    left = [0.0] * len(names)
    for pattern, colour in zip(PATTERNS, _COLOURS, strict=True):
        widths = [found.bytes[name, pattern] / _MIB for name in names]
        panel.barh(
            [printable(name) for name in names], widths, left=left, color=colour, label=pattern
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    panel.set(xlabel="MiB read")
    panel.legend()
