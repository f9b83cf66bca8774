"""Nodes: which workers of a Dask cluster see the same directory."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ego4dfs.cache import prepare_directory
from ego4dfs.cluster.part import installed
from ego4dfs.cluster.task_run import host_of
from ego4dfs.cluster.worker_config import worker_config
from ego4dfs.config import Config
from ego4dfs.copies import Layout
from ego4dfs.errors import Ego4DError, OutputError

if TYPE_CHECKING:
    from distributed import Client

Place = Callable[[], Path]
"""Returns on a worker the directory for marks, and creates it. Raises OSError or Ego4DError."""


@dataclass(frozen=True, slots=True)
class Node:
    """The workers that see one directory: their hosts, as their addresses have them.

    `error` says why it cannot be used. `workers` is how many there are at the start.
    """

    name: str
    hosts: tuple[str, ...]
    workers: int
    error: Ego4DError | OSError | None = None


def copies_place(layout: Layout) -> Path:
    """Return the place of marks in a directory of copies."""
    layout.prepare(())
    return layout.state


def cache_place(config: Config) -> Path:
    """Return the place of marks in the cache of a worker."""
    return prepare_directory(worker_config(config).cache_dir)


def find_nodes(client: Client, place: Place, run: str) -> list[Node]:
    """Group the workers by the directory that they see; the nodes are in the order of their names.

    Each worker writes a file with a name of its own, and looks which of them it sees. Workers
    without a usable directory are nodes with an error. Raises OutputError if workers of one host
    see different directories, or if a worker has another version of ego4dfs.
    """
    addresses = sorted(client.nthreads())
    marks = {address: f"dask-{run}-{number}" for number, address in enumerate(addresses)}
    try:
        wrote = _on_all(client, partial(_write_mark, place, marks), addresses)
        usable = [a for a in addresses if not isinstance(wrote[a], Exception)]
        seen = _on_all(client, partial(_seen, place, frozenset(marks.values())), usable)
    finally:
        with suppress(OSError, TimeoutError):
            _on_all(client, partial(_remove_mark, place, marks), addresses)
    _check_releases(wrote)
    errors = {a: found for a, found in wrote.items() if isinstance(found, Exception)}
    errors |= {a: found for a, found in seen.items() if isinstance(found, Exception)}
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for address in usable:
        if address not in errors:
            groups[seen[address]].append(address)
    for address, error in errors.items():
        groups[frozenset({host_of(address), str(error)})].append(address)
    names = {a: wrote[a][0] for a in usable}
    return _checked([_node(group, names, errors) for group in groups.values()])


def _on_all(client: Client, function: Callable[[Any], Any], addresses: list[str]) -> dict[str, Any]:
    """Call a function with the address of each worker, on it; an error is its result."""
    found: dict[str, Any] = {}
    if addresses:
        found = client.run(partial(_called, function), workers=addresses, on_error="return")
    # A worker that is lost meanwhile is not there.
    lost = OutputError("its worker is lost")
    return {address: found.get(address, lost) for address in addresses}


def _called(function: Callable[[Any], Any], dask_worker: Any) -> Any:
    return function(dask_worker.address)


def _write_mark(place: Place, marks: Mapping[str, str], address: str) -> tuple[str, str]:
    """Write the mark of a worker; return the name of its machine, and its version of ego4dfs."""
    (place() / marks[address]).touch()
    return socket.gethostname(), installed()


def _seen(place: Place, marks: frozenset[str], _address: str) -> frozenset[str]:
    return frozenset(path.name for path in place().glob("dask-*") if path.name in marks)


def _remove_mark(place: Place, marks: Mapping[str, str], address: str) -> None:
    (place() / marks[address]).unlink(missing_ok=True)


def _check_releases(wrote: Mapping[str, Any]) -> None:
    for address, found in wrote.items():
        if isinstance(found, tuple) and found[1] != installed():
            raise OutputError(
                f"the Dask worker {address} has ego4dfs {found[1]}, and this command is ego4dfs"
                f" {installed()}",
                hint="install the same version for all workers",
            )


def _node(addresses: list[str], names: Mapping[str, str], errors: Mapping[str, Exception]) -> Node:
    hosts = tuple(sorted({host_of(address) for address in addresses}))
    shown = ", ".join(dict.fromkeys(names[a] for a in addresses if a in names))
    more = f" and {len(hosts) - 1} more" if hosts[1:] else ""
    name = f"{shown.partition(',')[0]} ({hosts[0]}{more})" if shown else f"{hosts[0]}{more}"
    error = errors.get(addresses[0])
    if error is not None and not isinstance(error, (Ego4DError, OSError)):
        error = OutputError(f"{type(error).__name__}: {error}", hint="see the logs of its workers")
    return Node(name, hosts, len(addresses), error)


def _checked(nodes: list[Node]) -> list[Node]:
    """Return the nodes by name. Raises OutputError for two nodes of one host that both work."""
    by_host: dict[str, Node] = {}
    for node in nodes:
        for host in node.hosts if node.error is None else ():
            if host in by_host:
                raise OutputError(
                    f"the Dask workers of {host} see different directories",
                    hint="workers of one host, which share its work, must see the same directory",
                )
            by_host[host] = node
    # A host of which only some workers failed is one node: the others do its work.
    kept = [n for n in nodes if n.error is None or not set(n.hosts) <= by_host.keys()]
    return sorted(kept, key=lambda node: node.name)
