"""How the scripts talk to a person: settings from the command line, and one clear sentence for every error."""

import contextlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, make_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

T = TypeVar("T")
INTERNAL = {"internal": True}  # metadata of a dataclass field that has no flag


class UserError(Exception):
    """Something the user can mend. Its text is the one sentence they will see."""


def fold(text: object) -> str:
    """Any text, such as a library's error, as a single line."""
    return " ".join(str(text).split())


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a UserError or Ctrl-C into one sentence on stderr and a non-zero exit, never a traceback."""
    _use_utf8()
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


def _use_utf8() -> None:
    """Start the script anew in UTF-8 where the locale is another one: names of files could not be read otherwise."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of it: libraries written in C, torch among them, wrap it in errors of theirs."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def parse(
    settings: type[T],
    arguments: Sequence[str],
    description: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> T:
    """An instance of the dataclass `settings`, its fields overridden by command-line flags.

    `groups` are the titles of the groups of --help and the fields in each; without them all fields stand together.
    INTERNAL fields have no flag. Raises UserError for an unknown flag or a wrong type; `--help` prints the flags and
    exits.
    """
    messages = io.StringIO()
    options = {"args": list(arguments), "description": description or "", "config": (tyro.conf.OmitArgPrefixes,)}
    try:
        with contextlib.redirect_stderr(messages):
            filled = tyro.cli(_form(settings, groups), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_first_message(messages.getvalue())} (--help lists every setting).") from None
    values = vars(filled)
    if groups:
        values = {name: value for group in values.values() for name, value in vars(group).items()}
    return settings(**values)


def _form(settings: type, groups: Mapping[str, Sequence[str]] | None) -> type:
    """The dataclass that tyro shows: the fields of `settings`, in a dataclass of its own for each group."""
    entries = _entries(settings)
    if not groups:
        return _dataclass(entries.values())
    parts = []
    for number, (title, names) in enumerate(groups.items()):
        if inside := [entries[name] for name in names if name in entries]:
            part = _dataclass(inside)
            parts.append((f"group{number}", Annotated[part, tyro.conf.arg(name=title)], field(default_factory=part)))
    return _dataclass(parts)


def _dataclass(entries: Iterable[tuple[str, Any, Field]]) -> type:
    return make_dataclass("Settings", entries, kw_only=True, namespace={"__doc__": ""})


def _entries(settings: type) -> dict[str, tuple[str, Any, Field]]:
    """Name, type and default of each field, the type with its help text and its placeholder."""
    hints, comments, entries = get_type_hints(settings, include_extras=True), comments_of(settings), {}
    for setting in fields(settings):
        if INTERNAL.items() <= setting.metadata.items():
            continue
        hint = hints[setting.name]
        kind, own = getattr(hint, "__origin__", hint), getattr(hint, "__metadata__", ())
        kind = kind if own else hint
        placeholder, text = _placeholder(kind), comments.get(setting.name)
        shown = tyro.conf.arg(help=text, metavar=placeholder, help_behavior_hint=_default_hint)
        default = field(default=setting.default, default_factory=setting.default_factory)
        entries[setting.name] = (setting.name, Annotated[kind, shown, *own], default)
    return entries


def comments_of(settings: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, those of its base classes included."""
    comments: dict[str, str] = {}
    for kind in reversed(settings.__mro__[:-1]):
        with contextlib.suppress(OSError, TypeError):  # a class without a source file has no comments
            comments |= re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(kind), re.MULTILINE)
    return comments


def _placeholder(kind: Any) -> str | None:
    """What stands behind a flag in --help: INT, PATH, {a,b}, NAME ...; None: what tyro says, such as for a switch."""
    inside = [part for part in get_args(kind) if part is not NoneType]
    if kind is bool:
        return None
    if get_origin(kind) in (Union, UnionType):
        return _placeholder(inside[0]) if len(inside) == 1 else None
    if get_origin(kind) is tuple and inside[-1] is Ellipsis:
        return f"{_placeholder(inside[0])} ..."
    if get_origin(kind) is tuple:
        return " ".join(str(_placeholder(part)) for part in inside)
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, inside))}}}"
    return {str: "NAME", float: "NUMBER"}.get(kind, kind.__name__.upper())


def _default_hint(default: str) -> str:
    """(default: 3); nothing for an empty one."""
    return f"(default: {default})" if default.strip("' ") else ""


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
