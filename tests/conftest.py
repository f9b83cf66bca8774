"""The options of the suite, and the fixtures of `kit`.

`pytest --libfuse 2 --transport s3fs` runs the suite on the other two libraries.
"""

from __future__ import annotations

import logging
import shutil
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

pytest_plugins = (
    "kit.processes",
    "kit.server",
    "kit.cli",
    "kit.clips",
    "kit.dask",
    "kit.mounts",
    "kit.prefetch",
    "kit.official",
    "kit.copies",
    "kit.contract",
    "kit.stores",
    "kit.reader",
    "kit.mirrors",
    "kit.near",
    "kit.browse",
    "kit.chromium",
)


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """Undo what a command of a test does to the logger, such as `doctor`, which shows no warning.

    Later tests of the process look for warnings.
    """
    logger = logging.getLogger("ego4dfs")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers[:] = propagate, handlers


def pytest_configure() -> None:
    """Let children receive SIGHUP and Ctrl-C even if this run was started by nohup or with `&`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--libfuse", default="3", choices=("2", "3"))
    parser.addoption("--transport", default="obstore", choices=("obstore", "s3fs"))
    of = "of test_model, test_media_cut, test_ego4d and test_mount_decoded: examples of each test"
    parser.addoption("--examples", type=int, help=of)
    parser.addoption("--steps", type=int, help="of test_model.py: steps of each example")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the slowest files first: those with slow tests, then those with many tests.

    Leave out the tests of programs that `scripts/setup` does not install, and that are not there.
    """
    absent = [item for item in items if any(map(is_absent, item.iter_markers("program")))]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    count = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -count[item.path]))


def is_absent(mark: pytest.Mark) -> bool:
    return any(shutil.which(name) is None for name in mark.args)
