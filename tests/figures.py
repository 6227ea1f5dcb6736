"""What tests of figures share."""

import socket
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Any attempt to reach the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a figure reached for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


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


def assert_tidy(figure: Figure) -> None:
    """No text leaves the page, and no upright one touches another."""
    page = figure.bbox.padded(0.5)
    texts = drawn_texts(figure)
    for text, box, _ in texts:
        assert page.containsx(box.x0) and page.containsx(box.x1), f"{text!r} is cut off"
        assert page.containsy(box.y0) and page.containsy(box.y1), f"{text!r} is cut off"
    upright = [(text, box) for text, box, rotation in texts if rotation % 90 == 0]
    for (text, box), (other, place) in combinations(upright, 2):
        assert not box.overlaps(place), f"{text!r} touches {other!r}"
