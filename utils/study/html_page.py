"""The results page: questions with their answers and figures, tables, and the origin of the numbers, in one HTML file.

The page loads nothing from the network, can be read without JavaScript, and prints on A4. Its text stands in
page.html.j2, its style in page.css and its script in page.js, beside this module. utils/common/html.py has what it
shares with other pages.
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.html import BASE_STYLE, data_url, security_policy, template_environment

HERE = Path(__file__).parent
MISSING = "–"
WIDE_TABLE = 12  # columns; a wider table is printed on a landscape sheet
LONG_TABLE = 12  # rows; a table of so many has a box to filter them
DPI = 300  # of a PNG that does not say
ENLARGED = 1.5  # on a screen, against the size in a journal: letters of 7 points are too small there
SINGLE_WIDTH = 12 / 2.54  # inches; narrower figures stand side by side
PARTS = {  # headings behind the questions
    "tables": "Tables",
    "protocol": "How it was done",
    "provenance": "What made these numbers",
    "cite": "How to cite",
}


@dataclass
class Figure:
    """A PNG file, the text that replaces it for a reader who cannot see it, and the caption below it."""

    path: Path
    alt: str
    caption: str


@dataclass
class Section:
    """A question, its answer in plain text, single statements in a list, the figures, and a note such as "Seed 0.".

    `in_short` is the answer in one sentence for the top of the page, where the question belongs there.
    """

    question: str
    answer: str
    figures: list[Figure] = field(default_factory=list)
    note: str = ""
    points: list[str] = field(default_factory=list)
    in_short: str = ""


@dataclass
class Column:
    """How a column is shown: heading, unit, and a format specification of Python for its numbers, such as ".4f"."""

    label: str = ""
    unit: str = ""
    form: str = ""


@dataclass
class Table:
    """A data frame, shown without its index. A column that `columns` does not name has its own name and 4 digits.

    Rows where `not_significant` is true are grey and say "n.s.".
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: dict[str, Column] = field(default_factory=dict)
    not_significant: Bool[np.ndarray, "rows"] | None = None


def write_page(
    path: Path,
    *,
    title: str,
    sections: Sequence[Section],
    tables: Sequence[Table],
    provenance: dict[str, Any],
    citation: str,
    protocol: str = "",
    notice: str = "",
    summary: Sequence[str] = (),
    caveats: str = "",
) -> None:
    """Write the HTML file `path`, whole or not at all. Every text is plain and is escaped; what is empty is left out.

    `protocol` is Markdown. `notice` is a warning in a box above everything, `summary` the main results in sentences,
    `caveats` what holds for all of them. Raises UserError where a figure is missing or no PNG, ValueError where
    `not_significant` does not fit its table.
    """
    protocol, citation = protocol.strip(), citation.strip()
    own_style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style = BASE_STYLE + own_style
    template = _environment().get_template("page.html.j2")
    page = template.render(
        title=title,
        notice=notice.strip(),
        summary=summary,
        caveats=caveats.strip(),
        contents=_list_contents(sections, tables=tables, protocol=protocol, provenance=provenance, cite=citation),
        sections=sections,
        tables=[_prepare_table(table) for table in tables],
        protocol=_render_markdown(protocol),
        provenance=_as_texts(provenance),
        citation=citation,
        style=Markup(style),
        script=Markup(script),
        policy=security_policy(style, script),
    )
    with whole_file(path) as partial:
        partial.write_bytes(page.encode("utf-8", errors="replace"))


def _environment() -> Environment:
    environment = template_environment(HERE)
    environment.filters["picture"] = _embed_png
    environment.filters["sentences"] = _split_first_sentence
    environment.tests["code"] = _is_code
    return environment


def _split_first_sentence(text: str) -> list[str]:
    """The first sentence, which the page sets off, and the rest if there is any."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", text.strip(), maxsplit=1)


def _list_contents(sections: Sequence[Section], **parts: Any) -> dict[str, str]:
    """The headings of the page by their names in it: the questions, then those of `parts` that hold something."""
    contents = {f"q{number}": section.question for number, section in enumerate(sections, start=1)}
    return contents | {name: PARTS[name] for name, content in parts.items() if content}


def _embed_png(path: Path) -> dict[str, Any]:
    """A PNG as a data URL, with its width and height on the screen and whether it is a single column wide."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} could not be read for the page: {error.strerror}.") from None
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
    except UnidentifiedImageError:
        raise UserError(f"{path} is no PNG, expected a figure for the page.") from None
    dpi = image.info.get("dpi", (DPI, DPI))[0]
    scale = ENLARGED * 96 / dpi  # a screen has 96 dots per inch, by convention
    return {
        "url": data_url(content),
        "width": round(scale * image.width),
        "height": round(scale * image.height),
        "single": image.width / dpi < SINGLE_WIDTH,
    }


def _prepare_table(table: Table) -> dict[str, Any]:
    """What the template needs of a table: headings, and rows of formatted cells."""
    frame, marks = table.frame, table.not_significant
    if marks is None:
        marks = np.zeros(len(frame), bool)
    if len(marks) != len(frame):
        raise ValueError(f"table {table.name}: {len(marks)} marks for {len(frame)} rows")
    headings, columns = [], []
    for index, name in enumerate(frame.columns):
        column = table.columns.get(name, Column())
        numeric, cells = _format_column(frame.iloc[:, index], column.form)
        headings.append({"label": column.label or name, "unit": column.unit, "numeric": numeric})
        columns.append(cells)
    return {
        "name": table.name,
        "caption": table.caption,
        "headings": headings,
        "rows": list(zip(*columns, strict=True)),
        "marks": marks.tolist(),
        "wide": frame.shape[1] > WIDE_TABLE,
        "long": len(frame) >= LONG_TABLE,
    }


def _format_column(values: pd.Series, form: str) -> tuple[bool, list[dict[str, str]]]:
    """Whether a column holds numbers; and each cell's text, with a number in full, for sorting, as its `key`."""
    items = [None if pd.isna(value) or value == MISSING else value for value in values]
    known = [item for item in items if item is not None]
    numeric = bool(known) and all(isinstance(item, Real) and not isinstance(item, bool) for item in known)
    if not numeric:
        return False, [{"text": _format_value(item), "key": ""} for item in items]
    cells = []
    for item in items:
        if item is None:
            cells.append({"text": MISSING, "key": ""})
        else:
            digits = form or ("d" if isinstance(item, Integral) else ".4g")
            cells.append({"text": format(item, digits), "key": json.dumps(float(item))})
    return True, cells


def _format_value(value: object) -> str:
    """A value that is no number of a table, for people to read; midnight is a date."""
    if value is None:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value).removesuffix(" 00:00:00")


def _as_texts(value: Any) -> Any:
    """The provenance as the template shows it: texts, and mappings and lists of mappings that are not empty."""
    if isinstance(value, dict) and value:
        return {str(key).replace("_", " "): _as_texts(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        return [_as_texts(inner) for inner in value]
    if isinstance(value, list | tuple):
        return ", ".join(_format_value(inner) for inner in value) or MISSING
    return _format_value(value) if value != {} else MISSING


def _is_code(text: str) -> bool:
    """Whether a value of the provenance is a fingerprint or a command."""
    return re.fullmatch(r"[0-9a-f]{12,}|\S*python\d* .*", text) is not None


def _render_markdown(text: str) -> Markup:
    """Markdown as HTML below a heading of the page: without its title and its links, since the page leads nowhere."""
    reader = MarkdownIt("commonmark", {"html": False}).disable(["image", "autolink"]).enable("table")
    for rule in ("link_open", "link_close"):
        reader.add_render_rule(rule, lambda *_: "")
    reader.add_render_rule("table_open", lambda *_: '<div class="box" role="region" tabindex="0">\n<table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    tokens = reader.parse(re.sub(r"\A\s*# .*", "", text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))
