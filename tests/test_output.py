"""Output and exit codes of commands, and how `ego4dfs` finds them."""

import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ego4dfs
from ego4dfs import cli, errors
from ego4dfs.cli import output
from ego4dfs.cli.output import ExitCode
from ego4dfs.text import human_size


@pytest.fixture
def command(monkeypatch):
    """Stand in for the command `ls`; `command.run` may be replaced."""
    module = types.SimpleNamespace(given=None)

    def run(given):
        module.given = given
        return ExitCode.PARTIAL

    module.run = run
    module.add_arguments = cli.options.add_selection
    monkeypatch.setitem(sys.modules, "ego4dfs.cli.ls", module)
    return module


@pytest.fixture
def state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("EGO4DFS_DEBUG", raising=False)
    return tmp_path / "ego4dfs" / "errors.log"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def python(*words, **environ):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(ego4dfs.__file__).parents[1],
        env={**os.environ, **environ},
    )


# Exit codes and errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.AccessDenied("x"), 4),
        (errors.CredentialsRejected("x"), 4),
        (errors.MountError("x"), 5),
        (errors.ManifestError("x"), 1),
        (errors.CacheError("x"), 1),
        (errors.NotFound("x"), 1),
        (errors.StoreUnavailable("x"), 1),
        (errors.Ego4DError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error, code, capsys):
    def fail():
        raise error

    assert output.guard(fail) == code
    assert capsys.readouterr() == ("", "ego4dfs: x\n")


def test_every_exit_code_is_explained():
    assert set(output.EXIT_MEANINGS) == set(ExitCode)
    for code in ExitCode:
        assert f"\n  {code.value}  {output.EXIT_MEANINGS[code]}" in output.exit_codes()
    assert output.exit_codes() in cli.help_text()


def test_an_error_is_one_line_and_its_hint_another(capsys):
    output.print_error(errors.ConfigError("--version: wrong", hint="write v2"))
    assert capsys.readouterr().err == "ego4dfs: --version: wrong\n  hint: write v2\n"


def test_the_code_of_the_command_is_returned():
    assert output.guard(lambda: ExitCode.PARTIAL) == 3


def test_ctrl_c_is_quiet(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert output.guard(interrupt) == 130
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_is_quiet():
    script = (
        "import sys; from ego4dfs.cli import output\n"
        "sys.exit(output.guard(lambda: [print('x' * 99) for _ in range(9999)] and 0))"
    )
    line = f'"{sys.executable}" -c "{script}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(ego4dfs.__file__).parents[1],
    )
    assert (done.stdout, done.stderr, done.returncode) == ("x" * 99 + "\n", "", 141)


def bug():
    raise ZeroDivisionError("oops")


def test_a_bug_is_one_line_and_its_traceback_in_a_file(state, capsys):
    assert output.guard(bug) == 1
    assert output.guard(bug) == 1
    lines = [
        "ego4dfs: unexpected ZeroDivisionError: oops",
        f"  hint: this is a bug; its traceback is in {state}",
    ]
    assert capsys.readouterr().err.splitlines() == lines * 2
    assert state.read_text().count("Traceback") == 2
    assert state.parent.stat().st_mode & 0o777 == 0o700


def test_a_password_in_a_url_is_shown_nowhere(state, monkeypatch, capsys):
    url = "ftp://user:hunter2@host/x"
    monkeypatch.setattr(sys, "argv", ["ego4dfs", "ls", f"--source={url}", "--source", url])

    def fail():
        raise ZeroDivisionError(url)

    output.guard(fail)
    output.print_error(errors.ConfigError(f"{url!r} is wrong", hint=f"not {url}"))
    shown = capsys.readouterr().err + state.read_text()
    assert "hunter2" not in shown
    assert shown.count("ftp://host/x") == 6


def test_debug_shows_the_traceback_instead(state, monkeypatch, capsys):
    monkeypatch.setenv("EGO4DFS_DEBUG", "1")
    output.guard(bug)
    assert "Traceback" in capsys.readouterr().err
    assert not state.exists()


def test_without_a_place_for_the_log_the_traceback_is_shown(state, capsys):
    state.parent.touch()
    output.guard(bug)
    assert "Traceback" in capsys.readouterr().err


def test_warnings_of_the_package_are_lines_on_stderr(command, capsys):
    cli.main(["ls", "--datasets", "Full-Scale"])
    cli.options.config_from(command.given, {})
    assert capsys.readouterr().err.splitlines() == [
        "ego4dfs: warning: --datasets: datasets are lower-case; using full-scale for Full-Scale",
    ]


# Figures and tables


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 2**29, "1.5 GiB"),
        (30 * 2**40, "30.0 TiB"),
        (5000 * 2**40, "5000.0 TiB"),
    ],
)
def test_sizes_have_a_unit(size, text):
    assert human_size(size) == text


ROWS = [("a.mp4", "1.5 GiB", "[FHO]"), ("long name", "7 B", "")]


def test_a_table_in_a_pipe_is_aligned_text(capsys):
    output.table(ROWS, ("NAME", "SIZE", "BENCHMARKS"), right={"SIZE"})
    assert capsys.readouterr().out.splitlines() == [
        "NAME          SIZE  BENCHMARKS",
        "a.mp4      1.5 GiB  [FHO]",
        "long name      7 B",
    ]


def test_a_table_without_rows_is_its_header(capsys):
    output.table([], ("NAME", "SIZE"))
    assert capsys.readouterr().out == "NAME  SIZE\n"


def test_a_table_on_a_terminal_takes_cells_as_they_are(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    output.table(ROWS, ("NAME", "SIZE", "BENCHMARKS"), right={"SIZE"}, stream=stream)
    text = stream.getvalue()
    assert "[FHO]" in text
    assert "\x1b[3" not in text


def test_a_long_table_is_plain_on_a_terminal_too():
    stream = Terminal()
    output.table([("x",)] * (output.MAX_RICH_ROWS + 1), ("NAME",), stream=stream)
    assert stream.getvalue().splitlines()[:2] == ["NAME", "x"]


def test_json_is_one_document(capsys):
    output.print_json({"path": Path("/a"), "name": "ä"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"path": "/a", "name": "ä"}
    assert "ä" in text


def test_json_refuses_values_that_it_cannot_represent():
    with pytest.raises(TypeError):
        output.print_json({"x": object()})


# The command


def test_a_command_is_run_with_its_flags(command):
    assert cli.main(["ls", "--video_uid", "A"]) == 3
    assert command.given.video_uids == ["A"]


def test_listing_datasets_runs_no_command(command, capsys):
    assert cli.main(["ls", "--list-datasets"]) == 0
    assert command.given is None
    assert "Available Ego4D datasets:" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_goes_to_stdout(words, capsys):
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    for name, line in cli.COMMANDS.items():
        assert f"  {name:<11}{line}\n" in text


def test_without_a_command_help_is_an_error(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr() == ("", cli.help_text())


@pytest.mark.parametrize("words", [["ls", "--help"], ["help", "ls"]])
def test_a_command_has_its_own_help(command, words, capsys):
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ego4dfs ls [OPTIONS]\n\nList files and sizes without mounting.")
    assert text.rstrip().endswith(output.exit_codes())


def test_version_is_of_ego4dfs_at_the_top_and_of_ego4d_in_commands(command, capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ego4dfs {ego4dfs.__version__}\n"
    cli.main(["ls", "--version", "v1"])
    assert command.given.version == "v1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["umount"], "there is no command umount\n  hint: did you mean unmount?"),
        (["LS"], "there is no command LS\n  hint: did you mean ls?"),
        (["xyz"], "there is no command xyz\n  hint: commands: mount, unmount, prefetch, "),
        (
            ["--datasets", "clips"],
            "no command before --datasets\n  hint: put the command first, as in: ego4dfs mount",
        ),
        (["ls", "--datsets"], "there is no option --datsets\n  hint: did you mean --datasets?"),
    ],
)
def test_a_wrong_command_line_is_explained(command, words, message, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"ego4dfs: {message}")


def test_help_imports_no_heavy_library():
    script = (
        "import sys; from ego4dfs.cli import main; main(['--help']); main(['--version'])\n"
        "heavy = {'pandas', 'botocore', 'obstore', 'fsspec', 's3fs', 'rich', 'diskcache', 'fuse'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert python("-c", script).stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command():
    done = python("-m", "ego4dfs", "--version")
    assert (done.returncode, done.stdout) == (0, f"ego4dfs {ego4dfs.__version__}\n")
    assert python("-m", "ego4dfs").returncode == 2


def test_the_command_line_is_that_of_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ego4dfs", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out
