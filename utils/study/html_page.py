"""One self-contained page of results: questions with their answers and figures, tables, and what made the numbers.

The page asks the network for nothing, is plain without JavaScript, and prints on A4.
"""

import base64
import hashlib
import html
import json
import re
import struct
from dataclasses import dataclass, field
from itertools import groupby
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.study.page_style import SCRIPT, STYLE

MISSING = "–"
WIDE_TABLE = 12  # columns; a wider one is printed on a sheet turned sideways
LONG_TABLE = 12  # rows; from here on a table has a box to filter them
DPI = 300  # of a PNG that does not say
ENLARGED = 1.5  # on a screen, over the size in a journal: its letters of 7 points are small there
SINGLE_WIDTH = 12 / 2.54  # inches; narrower figures stand side by side


@dataclass
class Figure:
    """A PNG with what stands in for it, and what stands below it."""

    path: Path
    alt: str
    caption: str


@dataclass
class Section:
    """A question, its answer in plain text, the figures that show it, and a reservation such as "one seed"."""

    question: str
    answer: str
    figures: list[Figure] = field(default_factory=list)
    note: str = ""


@dataclass
class Column:
    """How a column is shown: heading, unit, and a format specification of Python for its numbers, such as ".4f"."""

    label: str = ""
    unit: str = ""
    form: str = ""


@dataclass
class Table:
    """A data frame, without its index; columns that are not named in `columns` show their own name and 4 digits.

    Rows where `not_significant` is true are grey and say "n.s.".
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: dict[str, Column] = field(default_factory=dict)
    not_significant: Bool[np.ndarray, "rows"] | None = None


def write_page(
    path: Path,
    title: str,
    sections: list[Section],
    tables: list[Table],
    provenance: dict[str, Any],
    citation: str,
    protocol: str = "",
    notice: str = "",
) -> None:
    """Write `path`, one HTML file, whole or not at all. Every text is plain text and is escaped.

    `protocol` is paragraphs between blank lines, lists with "- " or "1. ", and `code`. What is empty is left out.
    Raises UserError where a figure is missing or no PNG, ValueError where `not_significant` does not fit its table.
    """
    parts = [(f"q{n}", s.question, _section(s)) for n, s in enumerate(sections, 1)]
    if tables:
        parts.append(("tables", "Tables", "".join(_table(t, f"table{n}") for n, t in enumerate(tables, 1))))
    if protocol.strip():
        parts.append(("protocol", "How it was done", _paragraphs(protocol)))
    if provenance:
        parts.append(("provenance", "What made these numbers", _definitions(provenance)))
    if citation.strip():
        parts.append(("cite", "How to cite", f'<pre class="citation">{_text(citation.strip())}</pre>\n'))
    contents = "".join(f'<li><a href="#{name}">{_text(heading)}</a></li>\n' for name, heading, _ in parts)
    banner = f'<p class="notice" role="note"><strong>{_text(notice)}</strong></p>' if notice.strip() else ""
    body = "".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{_text(heading)}</h2>\n{content}</section>\n'
        for name, heading, content in parts
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
{banner}
</header>
{f'<nav aria-label="Contents"><ol>{contents}</ol></nav>' if parts else ""}
<main>
{body}</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
    with whole_file(path) as partial:
        partial.write_bytes(page.encode("utf-8", errors="replace"))


def _policy() -> str:
    """Nothing may be loaded, and no other style or script may run than the two of this file."""
    style, script = (base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (STYLE, SCRIPT))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(section: Section) -> str:
    note = f'<p class="note">{_text(section.note)}</p>\n' if section.note else ""
    figures = "".join(map(_figure, section.figures))
    figures = f'<div class="figures">\n{figures}</div>\n' if figures else ""
    return f'<p class="answer">{_text(section.answer)}</p>\n{note}{figures}'


def _figure(figure: Figure) -> str:
    try:
        content = figure.path.read_bytes()
    except OSError as error:
        raise UserError(f"{figure.path} could not be read for the page: {error.strerror}.") from None
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 33:
        raise UserError(f"{figure.path} is no PNG, expected a figure for the page.")
    width, height = struct.unpack(">II", content[16:24])
    scale = ENLARGED * 96 / _dpi(content)
    kind = "single" if width / _dpi(content) < SINGLE_WIDTH else "double"
    return (
        f'<figure class="{kind}"><img src="data:image/png;base64,{base64.b64encode(content).decode()}" '
        f'width="{scale * width:.0f}" height="{scale * height:.0f}" decoding="async" alt="{_text(figure.alt)}">'
        f"<figcaption>{_text(figure.caption)}</figcaption></figure>\n"
    )


def _dpi(png: bytes) -> float:
    """Dots per inch from the pHYs chunk before the image data (PNG specification, 11.3.4.3)."""
    at = png.find(b"pHYs", 0, png.find(b"IDAT"))
    per_metre, unit = struct.unpack(">IxxxxB", png[at + 4 : at + 13]) if at > 0 else (0, 0)
    return per_metre * 0.0254 if unit == 1 and per_metre else DPI


def _table(table: Table, name: str) -> str:
    frame, unsure = table.frame, table.not_significant
    if unsure is not None and len(unsure) != len(frame):
        raise ValueError(f"table {table.name}: {len(unsure)} marks for {len(frame)} rows")
    wide = " wide" if frame.shape[1] > WIDE_TABLE else ""
    start = f'<div class="table{wide}">\n<h3 id="{name}">{_text(table.name)}</h3>\n'
    start += f'<p id="{name}-caption">{_text(table.caption)}</p>\n'
    if frame.empty:
        return start + '<p class="note">No rows.</p>\n</div>\n'
    marks = np.zeros(len(frame), bool) if unsure is None else unsure
    shown = [table.columns.get(label, Column()) for label in frame.columns]
    heads, columns = [], []
    for index, (label, column) in enumerate(zip(frame.columns, shown, strict=True)):
        numeric, cells = _cells(frame.iloc[:, index], column.form)
        unit = f' <span class="unit">{_text(column.unit)}</span>' if column.unit else ""
        kind = ' class="number"' if numeric else ""
        heads.append(f'<th scope="col"{kind}><span class="label">{_text(column.label or label)}</span>{unit}</th>')
        columns.append([(kind, *cell) for cell in cells])
    rows = "".join(_row(row, mark) for row, mark in zip(zip(*columns, strict=True), marks.tolist(), strict=True))
    legend = '<p class="note">n.s.: not significant; these rows are grey.</p>\n' if marks.any() else ""
    search = f'<label>Filter rows <input type="search" autocomplete="off"></label> <output>{len(frame)} rows</output>'
    search = f'<p class="filter" hidden>{search}</p>\n' if len(frame) >= LONG_TABLE else ""
    return (
        f'{start}{search}<div class="box" role="region" tabindex="0" aria-labelledby="{name}">\n'
        f'<table aria-labelledby="{name}" aria-describedby="{name}-caption">\n'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n{legend}</div>\n"
    )


def _row(cells: tuple[tuple[str, str, str], ...], mark: bool) -> str:
    """A table row; each cell is its class, its text, and its key for sorting (empty: the text)."""
    (kind, text, key), *others = cells
    if mark:
        first = f'<th scope="row"{kind} data-v="{_text(key or text)}">{_text(text)} <span class="mark">n.s.</span></th>'
    else:
        first = f'<th scope="row"{kind}{_key(key)}>{_text(text)}</th>'
    rest = "".join(f"<td{kind}{_key(key)}>{_text(text)}</td>" for kind, text, key in others)
    start = '<tr class="unsure">' if mark else "<tr>"
    return f"{start}{first}{rest}</tr>\n"


def _key(key: str) -> str:
    return f' data-v="{_text(key)}"' if key else ""


def _cells(values: pd.Series, form: str) -> tuple[bool, list[tuple[str, str]]]:
    """Whether a column holds numbers, and each cell's text and key for sorting; that of a number has all its digits."""
    present = [bool(there) and value != MISSING for value, there in zip(values, values.notna(), strict=True)]
    known = [value for value, there in zip(values, present, strict=True) if there]
    numeric = bool(known) and all(isinstance(v, Real) and not isinstance(v, bool) for v in known)
    cells = []
    for value, there in zip(values, present, strict=True):
        if not there:
            cells.append((MISSING, ""))
        elif numeric:
            cells.append(
                (format(value, form or ("d" if isinstance(value, Integral) else ".4g")), json.dumps(float(value)))
            )
        else:
            cells.append((_plain(value), ""))
    return numeric, cells


def _plain(value: object) -> str:
    """A value that is no number of a table, for people to read; midnight is a date."""
    if value is None:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value).removesuffix(" 00:00:00")


def _paragraphs(text: str) -> str:
    """Paragraphs and lists of plain text; an indented line continues the item above it."""
    items: list[list[str]] = []  # tag, text
    open_paragraph = False
    for line in text.splitlines():
        bullet = re.match(r"\s*(?:([-*])|\d+[.)])\s+(?=\S)", line)
        if bullet:
            items.append(["ul" if bullet[1] else "ol", line[bullet.end() :].strip()])
        elif line.strip() and items and (open_paragraph or (line[0].isspace() and items[-1][0] != "p")):
            items[-1][1] += " " + line.strip()
        elif line.strip():
            items.append(["p", line.strip()])
        open_paragraph = bool(line.strip()) and items[-1][0] == "p"
    blocks = []
    for tag, group in groupby(items, key=lambda item: item[0]):
        texts = [re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text)) for _, text in group]
        inner = "".join(f"<li>{t}</li>\n" for t in texts)
        blocks.append("".join(f"<p>{t}</p>\n" for t in texts) if tag == "p" else f"<{tag}>\n{inner}</{tag}>\n")
    return "".join(blocks)


def _definitions(content: dict[str, Any]) -> str:
    items = (f"<dt>{_text(key).replace('_', ' ')}</dt><dd>{_value(value)}</dd>\n" for key, value in content.items())
    return f"<dl>\n{''.join(items)}</dl>\n"


def _value(value: Any) -> str:
    """A value of the provenance: nested where it is nested, a list of mappings folded away."""
    if isinstance(value, dict) and value:
        return _definitions(value)
    if isinstance(value, list | tuple) and value:
        if not any(isinstance(item, dict) for item in value):
            return ", ".join(map(_value, value))
        entries = "".join(f"<li>{_value(item)}</li>\n" for item in value)
        return f"<details><summary>{len(value)} entries</summary>\n<ol>\n{entries}</ol></details>"
    text = _plain(value) if not isinstance(value, dict | list | tuple) else MISSING
    return f"<code>{_text(text)}</code>" if re.fullmatch(r"[0-9a-f]{12,}|\S*python\d* .*", text) else _text(text)
