"""A second copy of product modules: with switch points, and on simulated threads and clocks.

A switch point is a call that is inserted into the syntax tree: before each statement, after each
call, after each read of an attribute, and between read and write of `x.y += z`. Single operations
of built-in containers stay atomic, as they are under the interpreter's lock.
"""

from __future__ import annotations

import ast
import atexit
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import operator
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from unittest import mock

import ego4dfs
from schedules import scheduler

COPIED = (
    "ego4dfs.blocks",
    "ego4dfs.cache",
    "ego4dfs.facts",
    "ego4dfs.metrics",
    "ego4dfs.reader",
    "ego4dfs.runtime",
    "ego4dfs.sqlite",
)
WITHOUT_POINTS = ("ego4dfs.blocks", "ego4dfs.metrics", "ego4dfs.cache.index")
"""Pure modules, counters under one lock, and what a fake replaces."""

_SIMULATED = {"threading", "time", "queue"}
_ROOT = Path(ego4dfs.__file__).parent
_OPERATORS = {
    ast.Add: operator.iadd,
    ast.Sub: operator.isub,
    ast.Mult: operator.imul,
    ast.BitOr: operator.ior,
    ast.BitAnd: operator.iand,
}


@dataclass(frozen=True)
class Change:
    """A replacement in the source of one module; the old text must occur exactly once."""

    module: str
    old: str
    new: str


SMALL_BLOCKS = (
    Change("ego4dfs.blocks", "BLOCK_SIZE = 1 << 20", "BLOCK_SIZE = 64"),
    Change("ego4dfs.blocks", "PART_SIZE = 256 << 10", "PART_SIZE = 16"),
)
"""Blocks of 64 bytes and parts of 16: all other sizes follow from them."""


class Product:
    """The copied modules, by the names that follow `ego4dfs.`, with underscores for dots."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        for full, module in self._modules.items():
            if full.removeprefix("ego4dfs.").replace(".", "_") == name:
                setattr(self, name, module)
                return module
        raise AttributeError(name)


def load(changes: Sequence[Change] = ()) -> Product:
    """Load the copy, with SMALL_BLOCKS and these changes; the real modules stay in use."""
    for package in COPIED:
        importlib.import_module(package)
    names = ("reader.reader", "reader.background_verifier", "cache.blockcache", "facts.index")
    with _real_modules_aside():
        finder = _Finder((*SMALL_BLOCKS, *changes))
        sys.meta_path.insert(0, finder)
        try:
            for name in names:
                importlib.import_module(f"ego4dfs.{name}")
        finally:
            sys.meta_path.remove(finder)
        unused = {change.module for change in finder.changes} - finder.changed
        if unused:
            raise ValueError(f"modules that were not loaded: {unused}")
        return Product({name: sys.modules[name] for name in sys.modules if _is_copied(name)})


@contextmanager
def _real_modules_aside() -> Iterator[None]:
    real = {name: module for name, module in sys.modules.items() if _is_copied(name)}
    for name in real:
        del sys.modules[name]
    at_fork = mock.patch.object(os, "register_at_fork")
    at_exit = mock.patch.object(atexit, "register")
    try:
        with at_fork, at_exit:
            yield
    finally:
        for name in [name for name in sys.modules if _is_copied(name)]:
            del sys.modules[name]
        sys.modules.update(real)
        for name, module in real.items():
            parent, _, child = name.rpartition(".")
            setattr(sys.modules[parent], child, module)


def _is_copied(name: str) -> bool:
    return name.startswith(tuple(f"{package}." for package in COPIED)) or name in COPIED


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the sources of copied modules, and compiles them with switch points."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes
        self.changed: set[str] = set()

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _is_copied(name):
            return None
        file = _ROOT.joinpath(*name.split(".")[1:])
        is_package = file.is_dir()
        origin = file / "__init__.py" if is_package else file.with_suffix(".py")
        return importlib.util.spec_from_file_location(
            name,
            origin,
            loader=self,
            submodule_search_locations=[str(file)] if is_package else None,
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path = Path(str(module.__file__))
        module.__dict__.update(__point__=scheduler.point, __at__=scheduler.at)
        module.__dict__.update({f"__{op.__name__}__": f for op, f in _OPERATORS.items()})
        code = _compiled(module.__name__, path, self._source(module.__name__, path))
        exec(code, module.__dict__)  # noqa: S102 - our own modules

    def _source(self, name: str, path: Path) -> str:
        source = path.read_text("utf-8")
        for change in self.changes:
            if change.module == name:
                count = source.count(change.old)
                if count != 1:
                    raise ValueError(f"{change.old!r} occurs {count} times in {path}")
                source = source.replace(change.old, change.new)
                self.changed.add(name)
        return source


@cache
def _compiled(name: str, path: Path, source: str) -> CodeType:
    has_points = name not in WITHOUT_POINTS
    transformer = _Transformer(str(path.relative_to(_ROOT)), has_points=has_points)
    tree = transformer.visit(ast.parse(source))
    code: CodeType = compile(ast.fix_missing_locations(tree), str(path), "exec")
    return code


class _Transformer(ast.NodeTransformer):
    """Inserts the switch points, and replaces imports by simulated modules."""

    def __init__(self, file: str, *, has_points: bool) -> None:
        self._file = file
        self._has_points = has_points
        self._depth = 0  # of functions

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        if len(node.names) == 1 and node.names[0].name in _SIMULATED:
            return ast.copy_location(ast.ImportFrom("schedules.simulated", node.names, 0), node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        if node.module == "concurrent.futures":
            return ast.copy_location(ast.ImportFrom("schedules.simulated", node.names, 0), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        self._depth += 1
        first = 1 if ast.get_docstring(node, clean=False) is not None else 0
        node.body = node.body[:first] + self._block(node.body[first:])
        self._depth -= 1
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        node.body = self._block(node.body)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """Read, let others run, write: the statement is not atomic."""
        if not self._is_active or isinstance(node.target, ast.Name):
            self.generic_visit(node)
            return node
        read = ast.parse(ast.unparse(node.target), mode="eval").body
        for part in ast.walk(read):
            ast.copy_location(part, node)
        function = ast.Name(f"__{type(node.op).__name__}__", ast.Load())
        value = ast.Call(function, [self.visit(read), self._at(self.visit(node.value), node)], [])
        return ast.copy_location(ast.Assign([node.target], value), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        return self._at(node, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        return self._at(node, node) if isinstance(node.ctx, ast.Load) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self._block(value))
            elif isinstance(value, list):
                setattr(node, name, [self._child(item) for item in value])
            else:
                setattr(node, name, self._child(value))
        return node

    def _child(self, value: Any) -> Any:
        return self.visit(value) if isinstance(value, ast.AST) else value

    @property
    def _is_active(self) -> bool:
        return self._has_points and self._depth > 0

    def _where(self, node: ast.AST) -> ast.Constant:
        return ast.Constant(f"{self._file}:{getattr(node, 'lineno', 0)}")

    def _at(self, value: ast.expr, node: ast.AST) -> ast.expr:
        if not self._is_active:
            return value
        call = ast.Call(ast.Name("__at__", ast.Load()), [value, self._where(node)], [])
        return ast.copy_location(call, node)

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        block: list[ast.stmt] = []
        for statement in statements:
            if self._is_active and not isinstance(statement, (ast.Global, ast.Nonlocal)):
                call = ast.Call(ast.Name("__point__", ast.Load()), [self._where(statement)], [])
                block.append(ast.copy_location(ast.Expr(call), statement))
            block.append(self.visit(statement))
        return block
