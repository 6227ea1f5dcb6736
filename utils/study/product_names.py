"""A study of other products calls them by their own names: its sentences are written for SMAP as the target."""

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from utils.dataset.prepared import SYNTHETIC

TARGET = re.compile(r"\bSMAP\b")  # no experiment's name: SMAPtest is one word
T = TypeVar("T")


def name_target(content: T, label: str) -> T:
    """A text, or a section or table of a page, with the label of the target's data set in place of SMAP.

    Nothing changes where the data set has no label, is synthetic, or is of SMAP itself.
    """
    if not label or label == SYNTHETIC or TARGET.search(label):
        return content
    return _rename(content, label)


def _rename(content: Any, label: str) -> Any:
    if isinstance(content, str):
        return TARGET.sub(label, content)
    if isinstance(content, list):
        return [_rename(part, label) for part in content]
    if isinstance(content, dict):
        return {name: _rename(part, label) for name, part in content.items()}
    if is_dataclass(content):
        return replace(content, **{part.name: _rename(getattr(content, part.name), label) for part in fields(content)})
    return content
