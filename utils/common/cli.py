"""How the scripts talk to a person: settings from the command line, and one clear sentence for every error."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tyro

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend. Its text is the one sentence they will see."""


def fold(text: object) -> str:
    """Any text, such as a library's error, as a single line."""
    return " ".join(str(text).split())


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a UserError or Ctrl-C into one sentence on stderr and a non-zero exit, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a log file in another encoding must not end a training
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _interrupted(error):
            print("\ninterrupted: the same command continues where this one stopped.", file=sys.stderr)
            sys.exit(130)
        if isinstance(error, UserError):
            if os.environ.get("LOCAL_RANK", "0") == "0":  # the other processes of torchrun have nothing to add
                print(f"error: {fold(error)}", file=sys.stderr)
            sys.exit(1)
        raise


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of it: libraries written in C, torch among them, wrap it in errors of theirs."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def parse(settings: type[T], arguments: Sequence[str], description: str | None = None) -> T:
    """An instance of the dataclass `settings`, its fields overridden by command-line flags.

    Raises UserError for an unknown flag or a wrong type; `--help` prints the flags and exits.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(settings, args=list(arguments), description=description or "")
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_first_message(messages.getvalue())} (--help lists every setting).") from None


def _first_message(box: str) -> str:
    """What tyro says first in its box: title, message, a rule, hints; drawn in ASCII where the terminal wants it."""
    lines = [line.strip(" │|") for line in box.splitlines()]
    message = []
    for line in lines[1:]:
        if not line or re.fullmatch(r"[-─╰╯+']+", line) or line.startswith("Got errors"):
            if message:
                break
        else:
            message.append(line)
    return fold(" ".join(message)).rstrip(".")


def given_on_command_line(names: Sequence[str], arguments: Sequence[str]) -> set[str]:
    """Which of the settings `names` the command line sets, whatever value it gives them."""
    flags = {a.split("=")[0].removeprefix("--").replace("-", "_") for a in arguments if a.startswith("--")}
    return {name for name in names if name in flags or f"no_{name}" in flags}
