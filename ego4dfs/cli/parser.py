"""The argparse parser of one command, and the reverse: arguments written as a command line.

On top of argparse: dashes and underscores are the same, in abbreviations too; a path after a list
of names is the positional argument and not a name; an error becomes a ConfigError with a hint.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ego4dfs.errors import ConfigError
from ego4dfs.text import shell_word

_OTHER_TOOLS = {
    "--raw-components": "Ego4D's documentation names it, but no tool has it: the raw recordings"
    " are datasets, as in --datasets components/videos components/imu"
}
"""Options that users may know from elsewhere, and what to use instead."""


def check_action(command: str, given: str | None, actions: Sequence[str]) -> None:
    """Raise ConfigError unless the first word after a command is one of its actions."""
    if given not in actions:
        text = f"there is no action {given}" if given else "no action was given"
        raise ConfigError(text, hint=f"name an action first: ego4dfs {command} {'|'.join(actions)}")


class Parser(argparse.ArgumentParser):
    """The parser of one command."""

    def __init__(self, **options: Any) -> None:
        """Take the options of ArgumentParser: `prog`, `description` and `epilog`."""
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments. Raises ConfigError, or SystemExit after --help."""
        end = argv.index("--") if "--" in argv else len(argv)
        words = [self._full_spelling(word) for word in argv[:end]]
        if "-lh" in self._option_string_actions and {"-l", "--long"} & {*words}:
            words = [word for word in words if word != "-h"]  # units, as in ls(1), and not --help
        return self.parse_args([*self._paths_first(words), *argv[end:]])

    def format_help(self) -> str:
        """Return the help; the usage line has [OPTIONS] in place of the options listed below it."""
        names = []
        for action in self._actions:
            if not action.option_strings:
                name = str(action.metavar or "|".join(action.choices or [action.dest]))
                names.append(f"[{name}]" if action.nargs in {"?", "*"} else name)
        self.usage = " ".join((self.prog, *names, "[OPTIONS]"))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError; argparse would print the usage, which hides the message."""
        raise ConfigError(message, hint=f"see {self.prog} --help")

    def _full_spelling(self, word: str) -> str:
        """Return an option as it was defined, for any spelling or abbreviation of it."""
        if not word.startswith("--") or word == "--":
            return word
        name, equals, value = word.partition("=")
        known = {_dashed(option): option for option in self._option_string_actions}
        found = [option for dashed, option in known.items() if dashed.startswith(_dashed(name))]
        if _dashed(name) in known:
            found = [known[_dashed(name)]]
        if len(found) > 1:
            raise ConfigError(f"{name} is short for several options", hint=" ".join(sorted(found)))
        if not found:
            words = {dashed.lstrip("-"): option for dashed, option in known.items()}
            close = difflib.get_close_matches(_dashed(name).lstrip("-"), words, n=1)
            hint = f"did you mean {words[close[0]]}?" if close else f"see {self.prog} --help"
            hint = _OTHER_TOOLS.get(_dashed(name), hint)
            raise ConfigError(f"there is no option {name}", hint=hint)
        return found[0] + equals + value

    def _paths_first(self, words: list[str]) -> list[str]:
        """Move paths out of the lists of names, which would include them.

        In `--datasets clips ~/ego4d` the last word can only be the mountpoint: no dataset, uid,
        benchmark or university begins like a path. Words before the first option stay before it.
        """
        paths: list[str] = []
        others: list[str] = []
        in_list = False
        for word in words:
            if word.startswith("-"):
                action = self._option_string_actions.get(word)
                in_list = action is not None and action.nargs in {"+", "*"}
            (paths if in_list and word.startswith(("/", "~", ".")) else others).append(word)
        first = next((i for i, word in enumerate(others) if word.startswith("-")), len(others))
        return others[:first] + paths + others[first:]


def command_line(parser: Parser, args: argparse.Namespace) -> str:
    """Return the command that gives these arguments, quoted for a shell; defaults are left out."""
    options: list[str] = []
    first: list[str] = []  # a list of names would include them
    last: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        given = getattr(args, action.dest, action.default)
        if given == action.default or (action.nargs == 0 and given != action.const):
            continue
        values = [] if action.nargs == 0 else given if isinstance(given, list) else [given]
        if action.option_strings:
            options += _option_words(action, [str(value) for value in values])
        elif str(given).startswith("-"):
            last = ["--", str(given)]
        else:
            first.append(str(given))
    return " ".join(map(shell_word, [*parser.prog.split(), *first, *options, *last]))


def _option_words(action: argparse.Action, values: list[str]) -> Iterator[str]:
    """Yield the words that give an option these values, in this order."""
    option = action.option_strings[-1]
    is_open = False  # whether a value may follow without the option's name
    if not values:
        yield option
    for value in values:
        if value.startswith("-") or (action.nargs and value.startswith(("/", "~", "."))):
            yield f"{option}={value}"
            is_open = False
        elif is_open:
            yield value
        else:
            yield from (option, value)
            is_open = bool(action.nargs)


def _dashed(option: str) -> str:
    return option.replace("_", "-")
