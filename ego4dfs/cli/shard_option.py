"""The option --shard I/N, and what `auto` reads from SLURM, torchrun and Kubernetes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from ego4dfs.copies import Journal, Layout, ShardJournal, open_whole
from ego4dfs.errors import ConfigError
from ego4dfs.prefetch import Plan, Shard

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)

_HINT = "I counts from 0, so the shards of 4 are 0/4, 1/4, 2/4 and 3/4"
_BY_HAND = "name it: --shard I/N"
_SOURCES = (
    "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT (sbatch --array), SLURM_PROCID and SLURM_NTASKS"
    " (srun), RANK and WORLD_SIZE (torchrun), or JOB_COMPLETION_INDEX and JOB_COMPLETIONS"
    " (Kubernetes)"
)


def add_shard(group: argparse._ActionsContainer, does: str) -> None:
    """Add the option of a command that does this with files."""
    group.add_argument(
        "--shard",
        metavar="I/N",
        help=f"{does} only part I of N of the selected files, I from 0; the parts are the same on"
        " every machine, and have about equally many bytes. `auto` reads I/N from the variables of"
        " a SLURM array, srun, torchrun, or an indexed job of Kubernetes",
    )


def shard_of(text: str | None, environ: Mapping[str, str]) -> Shard | None:
    """Return the shard that the option names; None without it. Raises ConfigError."""
    if text is None:
        return None
    if text == "auto":
        return _automatic(environ)
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ConfigError(f"--shard {text}: must be I/N, such as 0/4, or auto", hint=_HINT)
    return _checked(int(found[1]), int(found[2]), f"--shard {text}")


def open_journal(layout: Layout, shard: Shard | None) -> Journal:
    """Open the journal that a shard, or a run without shards, writes. Raises OutputError."""
    if shard is None:
        return open_whole(layout.state)
    return ShardJournal(layout.state, shard.index, shard.count)


def begin_part(journal: Journal, plan: Plan) -> None:
    """Record which files a shard may write, inside `exclusive`; nothing without a shard.

    Raises OutputError as ShardJournal does.
    """
    if isinstance(journal, ShardJournal) and plan.share is not None:
        journal.begin_part((item.path for item in plan.items), plan.share.digest)


def _automatic(environ: Mapping[str, str]) -> Shard:
    """Return the shard of the only scheduler that runs several processes.

    torchrun within srun counts alone: its ranks are those of all nodes.
    """
    found = {
        name: shard
        for name, shard in (
            ("RANK", _pair(environ, "RANK", "WORLD_SIZE")),
            ("SLURM_ARRAY_TASK_ID", _array(environ)),
            ("SLURM_PROCID", _srun(environ)),
            ("JOB_COMPLETION_INDEX", _pair(environ, "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS")),
        )
        if shard is not None
    }
    if not found:
        raise ConfigError(f"--shard auto: needs {_SOURCES}, and none is set", hint=_BY_HAND)
    if "RANK" in found:
        found.pop("SLURM_PROCID", None)
    several = {name: shard for name, shard in found.items() if shard.count > 1}
    if len(several) > 1:
        listed = " and ".join(f"{name} ({shard})" for name, shard in several.items())
        raise ConfigError(f"--shard auto: {listed} name different parts", hint=_BY_HAND)
    return next(iter((several or found).values()))


def _array(environ: Mapping[str, str]) -> Shard | None:
    if "SLURM_ARRAY_TASK_ID" not in environ:
        return None
    index = _number(environ, "SLURM_ARRAY_TASK_ID")
    count = _number(environ, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environ, "SLURM_ARRAY_TASK_MIN", "0")
    step = _number(environ, "SLURM_ARRAY_TASK_STEP", "1")
    last = _number(environ, "SLURM_ARRAY_TASK_MAX", str(first + (count - 1) * step))
    part, rest = divmod(index - first, step) if step else (0, 1)
    if rest or last != first + (count - 1) * step:
        text = "--shard auto: the ids of this array (SLURM_ARRAY_TASK_ID) are not evenly spaced"
        raise ConfigError(text, hint="use an array such as --array=0-7, or name it: --shard I/N")
    return _checked(part, count, "--shard auto: SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT")


def _srun(environ: Mapping[str, str]) -> Shard | None:
    """Return the task of a step; None in a batch script, which runs once for all its tasks."""
    is_batch = "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" not in environ
    if "SLURM_PROCID" not in environ or (is_batch and "SLURM_ARRAY_TASK_ID" in environ):
        return None
    shard = _pair(environ, "SLURM_PROCID", "SLURM_NTASKS", step="SLURM_STEP_NUM_TASKS")
    if is_batch and shard is not None and shard.count > 1 and "RANK" not in environ:
        text = "--shard auto: SLURM_NTASKS is set, but this is the batch script, which runs once"
        raise ConfigError(text, hint="start it once for each task: srun ego4dfs prefetch ...")
    return shard


def _pair(environ: Mapping[str, str], index: str, count: str, *, step: str = "") -> Shard | None:
    if index not in environ:
        return None
    count = step if step in environ else count
    part, of = _number(environ, index), _number(environ, count)
    return _checked(part, of, f"--shard auto: {index}={part} of {count}={of}")


def _number(environ: Mapping[str, str], name: str, default: str = "") -> int:
    text = environ.get(name, default)
    if not text:
        raise ConfigError(f"--shard auto: {name} is not set", hint=f"set it, or {_BY_HAND}")
    if _NUMBER.fullmatch(text) is None:
        raise ConfigError(f"--shard auto: {name}={text} is not a number", hint=_BY_HAND)
    return int(text)


def _checked(index: int, count: int, what: str) -> Shard:
    if not 0 <= index < count:
        raise ConfigError(f"{what}: there is no such part", hint=_HINT)
    return Shard(index, count)
