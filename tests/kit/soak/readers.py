"""The reading processes of a soak run, as the run sees them: started, killed, ended, summed up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from kit.load import Load
from kit.soak.reader_process import CONTINUE, REST, Task


class ReadingProcess:
    """One process that reads, restarted after it was killed; `found` is what its runs report."""

    def __init__(self, task: Task, env: Mapping[str, str]) -> None:
        self._task, self._env = task, dict(env)
        self._reports: list[dict[str, Any]] = []
        self.kills = 0
        self._start()

    @property
    def pid(self) -> int:
        """The process that reads now."""
        return self._process.pid

    @property
    def name(self) -> str:
        """The name of its task."""
        return self._task.name

    @property
    def has_begun(self) -> bool:
        """Whether its first operations have ended."""
        return bool(self._reports[-1]["operations"])

    def kill(self) -> None:
        """End it by SIGKILL, and start another one."""
        self._process.kill()
        self._finish()
        self.kills += 1
        self._start()

    def rest(self) -> None:
        """Let it begin no operation until `read_on`."""
        self._tell(REST)

    def read_on(self) -> None:
        """End its rest."""
        self._tell(CONTINUE)

    def end(self) -> bool:
        """Let its calls end, and end it; return whether it has ended by itself."""
        self._process.stdin.close()
        try:
            self._process.wait(self._task.ends_after_s + 20.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._finish()
            return False
        self._finish()
        return self._process.returncode == 0

    def close(self) -> None:
        """Kill it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._finish()

    def found(self) -> list[dict[str, Any]]:
        """Return the last report of each run."""
        return list(self._reports)

    def _tell(self, line: bytes) -> None:
        with suppress(BrokenPipeError):  # it has died, which `end` reports
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _start(self) -> None:
        task = replace(self._task, name=f"{self._task.name}-{self.kills}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kit.soak.reader_process", json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._env,
        )
        self._reports.append(Load().snapshot())
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,))
        self._listener.start()

    def _listen(self, output: Any) -> None:
        for line in output:
            if line.endswith(b"\n"):  # a killed process may leave half a line
                self._reports[-1] = json.loads(line)

    def _finish(self) -> None:
        self._process.wait()
        self._process.stdin.close()
        self._listener.join()
        self._process.stdout.close()
