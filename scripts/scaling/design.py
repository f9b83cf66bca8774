"""The lab that is simulated: its workloads, its nodes, and what limits them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scaling.measured import Measured
from scaling.simulate import Item, Tiers, Traffic, Workload, simulate

NODES = (1, 4, 16, 64, 250, 1000)
EPOCHS = 10
WINDOWS = 100_000
VIDEOS = 9_645
NODE_CACHE_BYTES = 100e9
NEAR_BYTES = 10e12
CORES = 32
"""Of each node."""
UPLINK_GBIT_S = 10.0
"""Of the whole lab, to AWS."""
NEAR_GBIT_S = 100.0
"""Of all servers of the near tier together."""
S3_GETS_S = 5_500.0
"""GET and HEAD requests to one prefix that S3 promises."""

_SAMPLE = 40
"""The simulation has one item in so many, and smaller caches by as much: shares are the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """A workload on a number of nodes: its traffic without and with a near tier, by epoch."""

    name: str
    nodes: int
    alone: list[Traffic]
    near: list[Traffic]


@dataclass(frozen=True, slots=True)
class Limit:
    """What stops a design: what one node needs of it, how much there is, in `unit`."""

    name: str
    design: str
    node: float
    total: float
    unit: str

    @property
    def nodes(self) -> int:
        """How many nodes it is enough for."""
        return int(self.total / self.node)


def workloads(found: Measured) -> list[Workload]:
    """Return what the lab trains: windows and features, in one job or in a job on each node."""
    window = Item(size=found.window_bytes, requests=found.window_requests)
    index = Item(size=found.index_bytes, requests=found.index_requests)
    feature = Item(size=found.feature_bytes, requests=found.feature_requests)
    windows = Workload(
        name="windows, one job",
        items=WINDOWS,
        item=window,
        parents=VIDEOS,
        parent=index,
        epochs=EPOCHS,
        division="anew",
    )
    shards = replace(windows, name="windows, one job, fixed shards", division="fixed")
    each = replace(windows, name="windows, a job on each node", division="each")
    features = replace(
        each, name="features, a job on each node", items=VIDEOS, item=feature, parents=0
    )
    return [windows, shards, each, features]


def results(found: Measured) -> list[Result]:
    """Simulate all workloads on all numbers of nodes."""
    return [
        Result(work.name, nodes, _traffic(work, nodes, 0.0), _traffic(work, nodes, NEAR_BYTES))
        for work in workloads(found)
        for nodes in NODES
    ]


def _traffic(work: Workload, nodes: int, near_bytes: float) -> list[Traffic]:
    """Return the traffic of each epoch.

    Of nodes that each read everything only two are simulated, one after the other: each further
    one does what the second does, because it finds the same in the near tier.
    """
    sample = replace(work, items=work.items // _SAMPLE, parents=work.parents // _SAMPLE)
    tiers = Tiers(node_bytes=NODE_CACHE_BYTES / _SAMPLE, near_bytes=near_bytes / _SAMPLE)
    if work.division != "each" or nodes == 1:
        return [one.scaled(_SAMPLE) for one in simulate(sample, nodes, tiers)]
    first, both = simulate(sample, 1, tiers), simulate(sample, 2, tiers)
    totals = []
    for one, two in zip(first, both, strict=True):
        more = two.minus(one).scaled(nodes - 2)
        totals.append(two.minus(more.scaled(-1)).scaled(_SAMPLE))
    return totals


def limits(found: Measured, all_results: list[Result]) -> list[Limit]:
    """Return what ends each design first, for windows in one job."""
    windows_s = CORES * found.core_windows_s
    gbit_s = windows_s * found.window_bytes * 8 / 1e9
    gets_s = windows_s * found.window_requests
    later = _share_after_first(all_results)
    return [
        Limit("S3: GETs of one prefix, first epoch", "no near tier", gets_s, S3_GETS_S, "GET/s"),
        Limit("line to AWS, first epoch", "no near tier", gbit_s, UPLINK_GBIT_S, "Gbit/s"),
        Limit("line to AWS, second epoch", "no near tier", gbit_s * later, UPLINK_GBIT_S, "Gbit/s"),
        Limit("near tier's network", "near tier", gbit_s, NEAR_GBIT_S, "Gbit/s"),
        Limit(
            "S3: HEADs of 10,000 files in a minute",
            "no near tier, no index file",
            found.list_heads,
            60 * S3_GETS_S,
            "HEADs",
        ),
        Limit(
            "S3: manifests in a second",
            "all nodes start at once, no near tier",
            found.start_requests,
            S3_GETS_S,
            "GETs",
        ),
    ]


def _share_after_first(all_results: list[Result]) -> float:
    """Return which share of the second epoch of one job on 16 nodes is not in the nodes' caches."""
    found = next(one for one in all_results if one.nodes == 16)
    return found.alone[1].far_bytes / found.alone[0].far_bytes
