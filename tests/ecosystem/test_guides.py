"""The examples of the guides that need libraries of the ecosystem run with the demo's sample."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kit.guides import examples

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.first_pass]

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.mark.parametrize("guide", ["libraries", "huggingface", "dask"])
def test_every_example_runs(guide, run_case, tmp_path):
    """One after the other, with a mount where the text has it."""
    env, data = run_case.env, Path(run_case.env["HOME"]) / "ego4d_data"
    data.mkdir()
    run_case.mounts.adopt(data)
    run_case.mounts.again(data, env=env)
    page = GUIDES / f"{guide}.md"
    code = "\n".join(code for language, code in examples(page) if language == "python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= code.count("\nprint(")


def test_the_notebook_runs(run_case, tmp_path, monkeypatch):
    for name in set(os.environ) - set(run_case.env):
        monkeypatch.delenv(name)
    for name, value in run_case.env.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(GUIDES / "notebook.ipynb", as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    kinds = [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
    ]
    assert kinds.count("image/png") == 2
    assert "text/html" in kinds
