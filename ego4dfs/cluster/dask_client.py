"""The connection to a Dask cluster: an existing one, or one of local processes."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from ego4dfs.config import Config
from ego4dfs.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 10.0
WORKERS_S = 60.0
"""How long to wait for the first worker: a scheduler of a batch system starts them later."""
_LOCAL = re.compile(r"local:([1-9][0-9]{0,2})", re.ASCII)
_SCHEDULER = re.compile(r"(tcp|tls)://[^\s/@]+:[0-9]{1,5}", re.ASCII)
_FORMS = "it is tcp://HOST:PORT of a scheduler, or local:N for N processes on this machine"


@dataclass(frozen=True, slots=True)
class DaskCluster:
    """The cluster that `--dask ADDRESS` names; `config` says how its workers reach the store."""

    address: str
    config: Config

    @property
    def of_parts(self) -> Config:
        """The Config that a part has: its plan has the files that the other options select."""
        return replace(
            self.config,
            video_uids=(),
            clip_uids=(),
            include=(),
            exclude=(),
            manifest_override_path=None,
        )

    def check(self) -> None:
        """Raise ConfigError for an address of another form, or if Dask is not installed."""
        if not (_LOCAL.fullmatch(self.address) or _SCHEDULER.fullmatch(self.address)):
            raise ConfigError(f"--dask {self.address}: not an address", hint=_FORMS)
        try:
            import distributed  # noqa: F401, PLC0415 - slow, and an extra
        except ImportError as error:
            raise ConfigError(
                "--dask needs the package distributed", hint="pip install 'ego4dfs[cluster]'"
            ) from error

    def connect(self, stack: ExitStack) -> Client:
        """Connect until `stack` ends, and wait for a worker.

        Raises ConfigError if there is no scheduler or no worker.
        """
        from distributed import Client, LocalCluster  # noqa: PLC0415

        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what is lost is reported
        logging.getLogger("asyncio").addFilter(is_no_lost_result)
        address: str | LocalCluster = self.address
        try:
            with _interrupts_deferred():
                if found := _LOCAL.fullmatch(self.address):
                    address = stack.enter_context(
                        LocalCluster(
                            n_workers=int(found[1]),
                            threads_per_worker=1,
                            host="127.0.0.1",
                            dashboard_address=None,
                            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any port
                            memory_limit=0,
                            silence_logs=logging.ERROR,
                        )
                    )
                client: Client = stack.enter_context(Client(address, timeout=_CONNECT_S))
            client.wait_for_workers(1, timeout=WORKERS_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                f"--dask {self.address}: no scheduler with a worker answers there ({error})",
                hint=f"start them: dask scheduler, and dask worker --nthreads 1 {self.address}",
            ) from error
        except TypeError as error:  # TLS without certificates
            raise ConfigError(
                f"--dask {self.address}: {error}",
                hint="set distributed.comm.tls in the configuration of Dask",
            ) from error
        return client


def is_no_lost_result(record: logging.LogRecord) -> bool:
    """Return False for the traceback of distributed's wait for a result that was given up."""
    from distributed.client import AllExit  # noqa: PLC0415 - slow, and an extra

    return record.exc_info is None or not isinstance(record.exc_info[1], AllExit)


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt after the block if SIGINT or SIGTERM came during it.

    A LocalCluster that is interrupted while it starts cannot be closed. The processes that are
    started inherit a mask with SIGINT: Ctrl-C in a terminal is sent to them, too, and the client
    ends their tasks.
    """
    found: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM)
    resource_tracker.ensure_running()  # its start would change the mask of a thread
    before = {end: signal.signal(end, lambda end, _frame: found.append(end)) for end in ends}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for end, handler in before.items():
            signal.signal(end, handler)
    if found:
        raise KeyboardInterrupt
