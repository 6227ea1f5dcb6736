"""What tests of figures share."""

import gc
import socket
import weakref
from collections.abc import Callable
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from utils import Drawmap
from utils.figures import scatter, style


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Any attempt to reach the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a figure reached for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(name="saved")
def saved_figures(monkeypatch) -> list[Figure]:
    """The figures that were written to a file."""
    figures, save = [], style.save
    for module in (Drawmap, scatter, style):
        monkeypatch.setattr(
            module, "save", lambda figure, *to, **how: (figures.append(figure), save(figure, *to, **how))
        )
    return figures


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text a reader sees: what it says, where (pixels), its rotation."""
    figure.draw_without_rendering()
    unseen = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            unseen |= {label for t in ticks if not low <= t.get_loc() <= high for label in (t.label1, t.label2)}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
    return [(t.get_text(), t.get_window_extent(), t.get_rotation()) for t in texts]


def assert_tidy(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """No text leaves the page, and no upright one touches another; returns the texts."""
    page = figure.bbox.padded(0.5)
    texts = drawn_texts(figure)
    for text, box, _ in texts:
        assert page.containsx(box.x0) and page.containsx(box.x1), f"{text!r} is cut off"
        assert page.containsy(box.y0) and page.containsy(box.y1), f"{text!r} is cut off"
    upright = [(text, box) for text, box, rotation in texts if rotation % 90 == 0]
    for (text, box), (other, place) in combinations(upright, 2):
        assert not box.overlaps(place), f"{text!r} touches {other!r}"
    return texts


def assert_tidy_plot(figure: Figure) -> None:
    """Tidy, and slanting names and panels stay clear of the legends."""
    texts = assert_tidy(figure)
    page = figure.bbox.padded(0.5)
    legends = [legend.get_window_extent() for legend in figure.legends]
    assert all(page.containsx(legend.x0) and page.containsx(legend.x1) for legend in legends), "a legend is cut off"
    slanted = [box for _, box, rotation in texts if rotation % 90]
    assert not any(box.overlaps(legend) for box in slanted for legend in legends)
    axes = [ax.get_window_extent() for ax in figure.axes]
    assert not any(box.overlaps(legend) for box in axes for legend in legends), "a legend covers a panel"


def marks(ax: Axes) -> list[tuple[float, float, str]]:
    """The clipped values: where the triangle stands, and what is written beside it."""
    triangles = [line for line in ax.get_lines() if line.get_gid() == "clipped"]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in triangles]
    assert {place for _, place in places} <= set(ax.get_ylim()), "a triangle stands on the edge"
    written = {
        tuple(map(float, text.xy)): text.get_text().replace("−", "-") for text in ax.texts if hasattr(text, "xy")
    }
    return [(*place, written[place]) for place in places]


def curve(ax: Axes, label: str) -> np.ndarray:
    """The one line of this label, x and y; dates as days."""
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    x, y = line.get_data()
    return np.column_stack([date2num(x) if np.asarray(x).dtype.kind == "M" else x, np.asarray(y, float)])


def assert_nothing_piles_up(monkeypatch, draw: Callable[[], None], figures: int) -> None:
    """Drawing so many figures, twice, leaves none of them in memory and no setting changed."""

    class Counted(Figure):
        alive, drawn = weakref.WeakSet(), 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            Counted.alive.add(self)
            Counted.drawn += 1

    monkeypatch.setattr(style, "Figure", Counted)
    settings = dict(plt.rcParams)
    for _ in range(2):
        draw()
    gc.collect()
    assert Counted.drawn == 2 * figures and not Counted.alive
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == settings


def forest_points(ax: Axes) -> set[tuple[int, float, bool, str]]:
    """The points of a forest plot: row, value, whether it is filled, marker."""
    points = [line for line in ax.get_lines() if line.get_gid() == "point"]
    return {
        (
            round(float(line.get_ydata()[0])),
            round(float(line.get_xdata()[0]), 6),
            line.get_markerfacecolor() != "white",
            line.get_marker(),
        )
        for line in points
    }


def forest_arrows(ax: Axes) -> list[tuple[int, str]]:
    """The points of a forest plot that lie off its axis: row, and what is written beside the arrow."""
    arrows = [line for line in ax.get_lines() if line.get_gid() == "clipped"]
    written = {tuple(map(float, text.xy)): text.get_text() for text in ax.texts if hasattr(text, "xy")}
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in arrows]
    assert {x for x, _ in places} <= set(ax.get_xlim()), "an arrow stands on the edge"
    return [(round(place[1]), written[place]) for place in places]
