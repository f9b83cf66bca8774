"""The picture of docs/concepts/scale.md: bytes from S3 by the number of nodes."""

from __future__ import annotations

from pathlib import Path

from scaling.design import Result
from scaling.page import total
from scaling.simulate import Traffic

_COLOURS = ("#d1495b", "#edae49", "#00798c")


def draw(results: list[Result], path: Path) -> None:
    """Draw a line for each workload of windows, and one for the most of them with a near tier."""
    import matplotlib as mpl  # noqa: PLC0415 - the tables do without it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panel = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    windows = [one for one in results if one.name.startswith("windows")]
    most: dict[int, float] = {}
    for name, colour in zip(dict.fromkeys(one.name for one in windows), _COLOURS, strict=True):
        found = {one.nodes: one for one in windows if one.name == name}
        alone = [_terabytes(one.alone) for one in found.values()]
        panel.plot(list(found), alone, "o-", color=colour, label=name)
        for nodes, one in found.items():
            most[nodes] = max(most.get(nodes, 0.0), _terabytes(one.near))
    label = "each of them, with a near tier"
    panel.plot(list(most), list(most.values()), "--", color="#222222", label=label)
    panel.set(xscale="log", yscale="log", xlabel="nodes", ylabel="TB from S3, all epochs")
    panel.set_xticks(list(most), [f"{nodes:,}" for nodes in most])
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.grid(color="#dddddd")
    panel.legend(loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _terabytes(epochs: list[Traffic]) -> float:
    return total(epochs).far_bytes / 1e12
