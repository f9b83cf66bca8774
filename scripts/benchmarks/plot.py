"""Headlines as bars. Drawn by the Python of .venv-bench, which has matplotlib."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.trouble import BenchError


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what `table.as_json` returned; raises BenchError when it cannot be drawn."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(found, file)
        file.flush()
        script = Path(__file__).with_name("bars.py")
        command = [str(PEERS / "bin/python"), str(script), file.name, str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BenchError(f"no plot: {error}; run scripts/bench, which makes it") from error
    if done.returncode:
        words = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise BenchError(f"no plot: {words}")
