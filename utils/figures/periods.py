"""Which days of the two products a study learns from, and what comes of them: a calendar above a flow diagram."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from utils.common.periods import Span, spans
from utils.figures import style

BODY = 3.15  # height below the title, inches
BAR = 0.28  # height of a record's bar, inches
SOURCE_Y, TARGET_Y = 2.5, 1.9  # lower edges of the bars, inches
LEFT, RIGHT = 0.8, style.DOUBLE - 0.1  # of the calendar, inches
STEPS_Y = 0.95  # middle of the steps below the calendar, inches
BEFORE = np.timedelta64(6 * 366, "D")  # days of the source that are drawn before the target's record begins, at most
Spans = tuple[Span, ...]
PARTS = {"train": "learn", "val": "validate", "test": "test"}  # what a period is for
COLOURS = {"train": "#9ecae1", "val": "#deebf7", "test": "#fdae6b"}
CLOSED = {"facecolor": "0.9", "edgecolor": "none", "zorder": 0}  # where the source may not learn
ROOM = 0.45  # inches that a date needs
WIDTH = 139  # characters of a line of the note
ARROW = {"arrowstyle": "-|>", "color": "0.2", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
STEP = {"boxstyle": "round,pad=0,rounding_size=0.05", "facecolor": "white", "edgecolor": "0.2", "linewidth": 0.6}


@rc_context(style.STYLE)
def draw_periods(
    periods: Mapping[str, Mapping[str, Sequence[str]]],
    path: Path,
    title: str,
    source_name: str = "ERA5-Land",
    target_name: str = "SMAP",
) -> None:
    """Write the diagram as `path` (.png).

    `periods`: the days (ISO START END, or several pairs) of train, val and test of ERA5test and SMAPtest, as study.json
    has them.
    """
    source, target = (
        {part: spans(part, tuple(periods[experiment][part])) for part in PARTS}
        for experiment in ("ERA5test", "SMAPtest")
    )
    figure = style.new_figure(style.DOUBLE, BODY, title)
    figure.set_layout_engine("none")  # every place is in inches
    ax = figure.add_axes((0, 0, 1, BODY / figure.get_figheight()), xlim=(0, style.DOUBLE), ylim=(0, BODY))
    ax.axis("off")
    first = max(source["train"][0][0], target["train"][0][0] - BEFORE)
    calendar = _Calendar(first, max(record["test"][-1][1] for record in (source, target)))
    _draw_record(ax, calendar, source, SOURCE_Y, ("source", source_name), outside=(SOURCE_Y + BAR + 0.03, "bottom"))
    _draw_record(ax, calendar, target, TARGET_Y, ("target", target_name), outside=(TARGET_Y - 0.03, "top"))
    for first, last in (*target["val"], *target["test"]):
        left, right = calendar.place(first), calendar.place(last + 1)
        ax.add_patch(Rectangle((left, TARGET_Y + BAR), right - left, SOURCE_Y - TARGET_Y, **CLOSED))
    _draw_flow(ax, calendar, target, "SMAP" if "SMAP" in target_name else target_name)
    style.save(figure, path)


class _Calendar:
    """Places of days on the page, inches."""

    def __init__(self, first: np.datetime64, last: np.datetime64):
        self.first, self.days = first, (last - first).astype(int) + 1

    def place(self, day: np.datetime64) -> float:
        """Where a day begins; what lies before the calendar is at its edge."""
        share = max((day - self.first).astype(int), 0) / self.days
        return LEFT + share * (RIGHT - LEFT)

    def middle(self, part: Spans) -> float:
        return (self.place(part[0][0]) + self.place(part[-1][1] + 1)) / 2


def _draw_record(
    ax: Axes,
    calendar: _Calendar,
    record: dict[str, Spans],
    y: float,
    names: tuple[str, str],
    outside: tuple[float, str],
) -> None:
    """A bar with the parts of a record. `names`: what it is for, and its data.

    `outside`: where the days of each part stand, and their alignment. There stands the name of a part that is too
    narrow for it.
    """
    ax.text(LEFT - 0.08, y + BAR, names[0], ha="right", va="center", fontweight="bold")
    data = "\n".join(textwrap.wrap(names[1], 16))
    ax.text(LEFT - 0.08, y + BAR - 0.07, data, ha="right", va="top", fontsize=5.5, linespacing=1.1)
    for part, (first, last) in [(key, span) for key in record for span in record[key]]:
        left, right = calendar.place(first), calendar.place(last + 1)
        ax.add_patch(Rectangle((left, y), right - left, BAR, facecolor=COLOURS[part], edgecolor="0.2", linewidth=0.6))
        if right - left > ROOM:
            ax.text((left + right) / 2, y + BAR / 2, PARTS[part], ha="center", va="center")
            ax.text(left + 0.02, outside[0], f"{first}\nto {last}", va=outside[1], fontsize=5.5, linespacing=1.1)
        else:
            ax.text(right, outside[0], PARTS[part], ha="right", va=outside[1], fontsize=5.5)
    if record["train"][0][0] < calendar.first:  # the bar is not to scale: it is broken
        ax.text(LEFT + 0.2, y + BAR / 2, "//", ha="center", va="center", fontsize=14, color="white", fontweight="bold")


def _draw_flow(ax: Axes, calendar: _Calendar, target: dict[str, Spans], product: str) -> None:
    """What learns from which record, and what is scored. `product` is the target's name."""
    learn, test = calendar.middle(target["train"]), calendar.middle(target["test"])
    before_target = calendar.place(target["train"][0][0]) - 0.06
    forecasts = ("fine-tuned models", "models from scratch", "baselines")
    width, height = 1.2, 0.22
    scores = (RIGHT - 1.35, STEPS_Y - 0.3 - height / 2)
    pretrained = (LEFT + 0.02, STEPS_Y + 0.3 - height / 2)
    left = np.clip(learn - width / 2, pretrained[0] + 1.1 + 0.5, scores[0] - 0.25 - width)
    for number, name in enumerate(forecasts):
        _box(ax, (left, STEPS_Y + 0.3 * (1 - number) - height / 2), (width, height), name)
    _box(ax, pretrained, (1.1, height), "pre-trained models")
    _box(ax, scores, (1.35, 0.6 + height), "scores, intervals, tests:\nall forecasts on the\nsame cells and days")
    down = {"arrowprops": ARROW, "annotation_clip": False}
    top = STEPS_Y + 0.3 + height / 2
    source = max(min(pretrained[0] + 0.5, before_target), pretrained[0] + 0.06)
    ax.annotate("", (source, top), (source, SOURCE_Y), **down)
    ax.annotate("", (left, STEPS_Y + 0.3), (pretrained[0] + 1.1, STEPS_Y + 0.3), **down)
    ax.text((left + pretrained[0] + 1.1) / 2, STEPS_Y + 0.33, "weights", ha="center", va="bottom", fontsize=6)
    ax.annotate("", (np.clip(learn, left + 0.1, left + width - 0.1), top), (learn, TARGET_Y - 0.25), **down)
    if test > scores[0]:
        ax.annotate("", (test, top), (test, TARGET_Y - 0.25), **down)
    else:  # around the corner, past the boxes between
        end = calendar.place(target["test"][-1][1] + 1)
        around = {"arrowprops": {**ARROW, "connectionstyle": "angle,angleA=0,angleB=90,rad=0"}}
        ax.annotate("", (scores[0] + 0.67, top), (end, TARGET_Y + BAR / 2), annotation_clip=False, **around)
    for number in range(len(forecasts)):
        y = STEPS_Y + 0.3 * (1 - number)
        ax.annotate("", (scores[0], y), (left + width, y), **down)
    note = (
        f"Grey: days on which {product} is validated or tested. The source learns from none of them; its own test is "
        "only scored. Validation days choose the epoch of a network; compact, change_net and ridge_memory learn from "
        f"them. No model learns from, or is chosen by, {product}'s test days."
    )
    ax.text(0.1, 0.08, textwrap.fill(note, WIDTH), va="bottom", fontsize=6, linespacing=1.2)


def _box(ax: Axes, corner: tuple[float, float], size: tuple[float, float], text: str) -> None:
    """A step, `corner` is its lower left one, inches."""
    ax.add_patch(FancyBboxPatch(corner, *size, **STEP))
    ax.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", linespacing=1.2)
