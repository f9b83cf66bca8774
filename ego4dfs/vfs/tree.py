"""The directory tree of a complete download: names and URLs, without content or requests.

    ego4d.json                    the primary metadata, where the official tool writes it
    manifest.csv                  that of full_scale, only with --manifest
    <v1|v2>/ego4d.json            the same object, where the official README has it
    <v1|v2>/<dataset>/manifest.csv
    <v1|v2>/<dataset>/<name>      one file for each entry

The directories are known at once; the files of a dataset are attached when its directory is first
listed or searched.
"""

from __future__ import annotations

import hashlib
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ego4dfs.datasets import MANIFEST, METADATA


class ObjectFile(NamedTuple):
    """A file whose content is one object of the store."""

    path: str
    url: str


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file whose content is the manifest of `dataset`, byte for byte."""

    path: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; `dataset` is empty for a directory that only contains other directories.

    `children` are the nodes that are known without a manifest.
    """

    path: str
    dataset: str = ""
    children: dict[str, Node] = field(default_factory=dict)


Node = ObjectFile | ManifestFile | Directory


class Files(Protocol):
    """The files of a dataset: names and URLs, read from a compact form when they are needed."""

    def __len__(self) -> int:
        """Return their number."""

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield name and URL of each, in listing order."""

    def url_of(self, name: str) -> str | None:
        """Return the URL of a file, or None if there is no file of this name."""


class _Listed:
    """Files from a sequence of names and URLs."""

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self._urls = dict(files)

    def __len__(self) -> int:
        return len(self._urls)

    def files(self) -> Iterator[tuple[str, str]]:
        return iter(self._urls.items())

    def url_of(self, name: str) -> str | None:
        return self._urls.get(name)


class _Children(Mapping[str, "Node"]):
    """The nodes below a directory, by name, in listing order; nodes of files are made on access."""

    def __init__(self, directory: Directory, files: Files) -> None:
        self._directory = directory
        self._files = files

    def __len__(self) -> int:
        both = sum(self._files.url_of(name) is not None for name in self._directory.children)
        return len(self._directory.children) + len(self._files) - both

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs())

    def __getitem__(self, name: str) -> Node:
        node = self._directory.children.get(name)
        url = self._files.url_of(name) if node is None else None
        if url is not None:
            return ObjectFile(join(self._directory.path, name), url)
        if node is None:
            raise KeyError(name)
        return node

    def items(self) -> ItemsView[str, Node]:
        return _Pairs(self)

    def values(self) -> ValuesView[Node]:
        return _Nodes(self)

    def _pairs(self) -> Iterator[tuple[str, Node]]:
        path, children = self._directory.path, self._directory.children
        yield from children.items()
        for name, url in self._files.files():
            if name not in children:
                yield name, ObjectFile(join(path, name), url)


class _Pairs(ItemsView[str, "Node"]):
    """Iterates over the files once, where the default view would look up each by its name."""

    _mapping: _Children

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return self._mapping._pairs()  # noqa: SLF001 - one class in three parts


class _Nodes(ValuesView["Node"]):
    """The same without the names."""

    _mapping: _Children

    def __iter__(self) -> Iterator[Node]:
        return (node for _, node in self._mapping._pairs())  # noqa: SLF001 - see above


class Tree:
    """Directories and files by path; paths have no leading slash, the root is "".

    Immutable except for `attach`, which adds the files of one dataset, once. Safe from several
    threads: the files of a dataset appear atomically.
    """

    def __init__(self) -> None:
        """Make a tree with only a root."""
        self.root = Directory("")
        self._files: dict[str, Files] = {}

    @classmethod
    def of(
        cls,
        directory: str,
        datasets: Iterable[str],
        *,
        metadata_url: str = "",
        top_manifest: str = "",
    ) -> Tree:
        """Make a tree of `datasets` below the directory of the version.

        `metadata_url` adds ego4d.json in both places; `top_manifest` is the dataset whose manifest
        is shown in the root.
        """
        tree = cls()
        version = tree.directory(directory)
        if metadata_url:
            for parent in (tree.root, version):
                tree.add(ObjectFile(join(parent.path, METADATA), metadata_url))
        if top_manifest:
            tree.add(ManifestFile(MANIFEST, top_manifest))
        for dataset in datasets:
            path = join(directory, dataset)
            tree.directory(path, dataset)
            tree.add(ManifestFile(join(path, MANIFEST), dataset))
        return tree

    def directory(self, path: str, dataset: str = "") -> Directory:
        """Return the directory at `path`; make it and its parents if they are missing."""
        if not path:
            return self.root
        parent_path, _, name = path.rpartition("/")
        parent = self.directory(parent_path)
        node = parent.children.get(name)
        if not isinstance(node, Directory) or (dataset and not node.dataset):
            known = node.children if isinstance(node, Directory) else {}
            node = parent.children[name] = Directory(path, dataset, known)
        return node

    def add(self, node: ObjectFile | ManifestFile) -> None:
        """Add a file that is known without a manifest."""
        parent_path, _, name = node.path.rpartition("/")
        self.directory(parent_path).children[name] = node

    def is_attached(self, directory: Directory) -> bool:
        """Return whether the files of a directory are known: attached, or it has no dataset."""
        return not directory.dataset or directory.path in self._files

    def attach(self, directory: Directory, files: Files | Iterable[tuple[str, str]]) -> None:
        """Add the files of a dataset to its directory, in listing order."""
        is_files = hasattr(files, "url_of")
        self._files[directory.path] = files if is_files else _Listed(files)  # type: ignore[assignment, arg-type]

    def children(self, directory: Directory) -> Mapping[str, Node]:
        """Return the known nodes below a directory, by name, in listing order."""
        files = self._files.get(directory.path)
        return _Children(directory, files) if files is not None else {**directory.children}

    def siblings(self, path: str) -> Mapping[str, Node]:
        """Return the known nodes in the same directory as a path, including its own."""
        return self.children(self.directory(path.rpartition("/")[0]))

    def child(self, directory: Directory, name: str) -> Node | None:
        """Return one node below a directory, or None if it is not known."""
        return self.children(directory).get(name)


def join(directory: str, name: str) -> str:
    """Return the path of `name` in `directory`."""
    return f"{directory}/{name}" if directory else name


def object_urls(children: Mapping[str, Node]) -> list[str]:
    """Return the URLs of those children that are objects."""
    return [child.url for child in children.values() if isinstance(child, ObjectFile)]


def inode(path: str) -> int:
    """Return a number for a path that is the same on every mount: 63 bits, never 0 or 1."""
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return 1 if not path else (int.from_bytes(digest, "big") >> 1) | 2
