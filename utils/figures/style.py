"""What all figures share: sizes, style, names and their order, and how a figure is laid out and saved.

No figure passes through pyplot, so that hundreds can be drawn in one process. Widths are those of a journal's columns
(single 8.5 cm, double 17 cm). The layout is constrained: matplotlib makes room for labels, legends and colour bars.
"""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETUP
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike

from utils.common.files import whole_file
from utils.scores.baselines import BASELINES

SINGLE, DOUBLE = 8.5 / 2.54, 17.0 / 2.54  # widths of a journal's columns, inches
TALLEST = 22.5 / 2.54  # what fits on a page above a caption, inches
UNITS = "m³ m⁻³"
STYLE = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 7, "legend.frameon": False}
STYLE |= {"axes.titlesize": "medium", "axes.titlelocation": "left", "axes.titlepad": 3, "axes.labelpad": 2}
STYLE |= {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}
STYLE |= {"xtick.major.size": 2, "ytick.major.size": 2, "xtick.major.pad": 2, "ytick.major.pad": 2}
STYLE |= {"legend.columnspacing": 1.2, "legend.handletextpad": 0.5}
STYLE |= {"pdf.fonttype": 42}  # TrueType: journals refuse type 3
TITLE_SIZE = 8

EXPERIMENTS = {
    "ERA5test": "trained and tested on the source",
    "SMAPtest": "trained and tested on the target",
    "finetune-SMAPtest": "the source, then fine-tuned on the target",
}
MODELS = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # the order of the paper; others follow
FORECASTS = ("#0072b2", "#3fbf8f", "#cc79a7", "#56b4e9")  # colour-blind readers tell them apart, and so does grey
NETWORKS = {
    "compact": FORECASTS[0],
    "convlstm": FORECASTS[1],
    "change_net": "#882255",
}  # those of most figures keep their colour in all
MARKERS = "os^Dv"  # of leads or of forecasts, where colours alone would not do in grey
DOT = {"marker": "o", "linestyle": "none", "markersize": 4, "markeredgecolor": "0.2", "markeredgewidth": 0.6}
EDGE = {"markeredgecolor": "0.2", "markeredgewidth": 0.5}  # of the markers on a line
GRID = {"axis": "y", "color": "0.85", "linewidth": 0.4}
STRIPES = {"color": "0.95", "linewidth": 0, "zorder": 0}
WORST_SKILL = -1.0  # twice the squared error of persistence: an axis need not reach farther

# entries of a legend
INTERVAL = Line2D([], [], marker="|", linestyle="none", markersize=7, color="0.2", label="95 % interval")
CLIPPED = Line2D([], [], color="0.6", label="off the axis", **DOT | {"marker": "v"})
# the one meaning of filled and hollow, in every figure
FILLED = Line2D([], [], color="0.2", label="filled: the interval excludes 0", **DOT)
HOLLOW = Line2D([], [], color="white", label="hollow: it does not", **DOT)
_BLANK = Line2D([], [], linestyle="none", label="")


@rc_context(STYLE)
def save(figure: Figure, path: Path, vector: bool = False) -> None:
    """Write `path` (.png, 300 dpi) and, for the study's figures, the same as vector PDF beside it.

    What is drawn as a picture in the PDF (the inside of maps) has 600 dpi.
    """
    path = Path(path)
    for name, dpi in ((path, 300), (path.with_suffix(".pdf"), 600))[: 1 + vector]:
        with whole_file(name) as partial:
            figure.savefig(partial, format=name.suffix[1:], dpi=dpi)


def new_figure(width: float, body: float, title: str) -> Figure:
    """A figure of this width with the whole title, wrapped, above a body of the given height, inches."""
    title = title.replace("SYNTHETIC sample", "SYNTHETIC\N{NO-BREAK SPACE}sample")
    lines = wrap(title, width - 0.2, TITLE_SIZE) or [" "]
    figure = Figure(figsize=(width, body + len(lines) * 1.25 * TITLE_SIZE / 72), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.04, wspace=0, hspace=0)
    style = {"family": STYLE["font.sans-serif"], "size": TITLE_SIZE, "linespacing": 1.15}
    figure.suptitle("\n".join(lines), x=0.1 / width, horizontalalignment="left", parse_math=False, **style)
    return figure


def legend(figure: Figure, *rows: Sequence[Artist]) -> None:
    """A legend below all panels; each row of entries starts at its left."""
    handles = [handle for column in zip_longest(*rows, fillvalue=_BLANK) for handle in column]  # it fills columns first
    figure.legend(handles=handles, loc="outside lower center", ncols=max(map(len, rows)), borderaxespad=0.2)


def in_rows(handles: Sequence[Artist], columns: int) -> list[Sequence[Artist]]:
    """The entries of a legend in rows of so many columns."""
    return [handles[i : i + columns] for i in range(0, len(handles), columns)]


def wrap(text: str, width: float, size: float) -> list[str]:
    """The lines of a text in letters of `size` points that is to be no wider than `width` inches."""
    font = FontProperties(family=STYLE["font.sans-serif"], size=size)
    lines: list[str] = []
    for letters in range(min(len(text), 160), 0, -1):
        wrapped = (textwrap.wrap(line, letters, break_on_hyphens=False) for line in text.splitlines())
        lines = [line for part in wrapped for line in part]
        widths = (text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)
        if max(widths, default=0) < 72 * width:
            break
    return lines


def ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: the known ones in their order, then the others as they come."""
    names = list(dict.fromkeys(names))
    return [n for n in known if n in names] + [n for n in names if n not in known]


def networks_first(names: Iterable[str]) -> list[str]:
    """Each name once: the networks as they come, then the baselines in their order."""
    names = list(dict.fromkeys(names))
    return [name for name in names if name not in BASELINES] + [name for name in BASELINES if name in names]


def finite_rows(table: pd.DataFrame, *numbers: str) -> pd.DataFrame:
    """The rows whose first number is finite, `numbers` as floats (NaN where the table lacks one)."""
    table = table.reindex(columns=dict.fromkeys([*table.columns, *numbers])).astype(dict.fromkeys(numbers, float))
    return table[np.isfinite(table[numbers[0]])].copy()


def baseline_line(name: str, width: float = 1.0) -> dict[str, Any]:
    """Colour, style and width (points) of a baseline's line."""
    return {"color": BASELINES[name].colour, "linestyle": BASELINES[name].line, "linewidth": width}


def line_of(name: str, names: list[str]) -> dict[str, Any]:
    """Colour, style and width of the line of one of `names`: a baseline keeps its own, the others are stronger."""
    if name in BASELINES:
        return baseline_line(name, width=0.8)
    others = [other for other in names if other not in BASELINES and other not in NETWORKS]
    colour = NETWORKS.get(name) or FORECASTS[2:][others.index(name) % 2]
    return {"color": colour, "linestyle": "solid", "linewidth": 1}


def axis_limits(
    values: Float[np.ndarray, "..."], lowest: float = -np.inf, inside: ArrayLike = ()
) -> tuple[float, float]:
    """Limits, with a margin, of the finite values not below `lowest` and within Tukey's outer fences.

    The fences stand 3 interquartile ranges outside the quartiles, so that one bad model does not squeeze all others
    into a corner; what lies beyond is for `mark_clipped`. No value lies so near a limit that its marker is cut. The
    values of `inside` are in any case on the axis.
    """
    values = values[np.isfinite(values)]
    kept = values[values >= lowest] if (values >= lowest).any() else values
    lower, upper = np.quantile(kept, (0.25, 0.75))
    reach = 3 * (upper - lower)
    kept = kept[(kept >= lower - reach) & (kept <= upper + reach)]
    kept = np.append(kept, inside)
    margin = 0.07 * np.ptp(kept) or 0.1 * abs(kept[0]) or 0.1
    within = values[(values >= kept.min() - margin) & (values <= kept.max() + margin)]
    return within.min() - margin, within.max() + margin


def draw_line(ax: Axes, x: ArrayLike, y: ArrayLike, **look: Any) -> bool:
    """A line with an arrow for each value off the axis; returns whether there is any."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    ax.plot(x, y, **look)
    return mark_clipped(ax, x, y, [look["color"]] * len(x))


def draw_interval(ax: Axes, x: ArrayLike, ends: pd.DataFrame, color: Any) -> None:
    """Upright intervals (`ends`: low, high), with an arrowhead on the edge where one is cut by it."""
    x, low, high = np.asarray(x, float), ends["low"].to_numpy(float), ends["high"].to_numpy(float)
    ax.vlines(x, low, high, color=color, linewidth=1, zorder=3)
    mark_cut(ax, x, low, high, color)


def mark_cut(ax: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, color: Any) -> None:
    """Put an arrowhead, without a number, on the edge of the axes where what reaches from low to high is cut by it."""
    bottom, top = ax.get_ylim()
    for edge, cut, marker in ((bottom, low < bottom, CARETDOWN), (top, high > top, CARETUP)):
        arrow = {"marker": marker, "markersize": 3, "color": color, "gid": "cut", "clip_on": False}
        if cut.any():
            ax.plot(x[cut], np.full(cut.sum(), edge), linestyle="none", zorder=3, **arrow)


def mark_clipped(ax: Axes, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], colors: Iterable) -> bool:
    """Put a triangle on the edge of the axes and write the value, for each y beyond the limits; tell whether any is.

    The value stands left of the triangle, where no interval of the same point runs through it.
    """
    low, high = ax.get_ylim()
    beyond = np.isfinite(y) & ((y < low) | (y > high))
    for place, value, color in zip(x[beyond], y[beyond], np.asarray(colors)[beyond], strict=True):
        edge, marker, up, side = (low, CARETDOWN, 1, "bottom") if value < low else (high, CARETUP, -1, "top")
        style = {"markersize": 5, "color": color, "markeredgecolor": "0.2", "markeredgewidth": 0.4}
        ax.plot([place], [edge], marker=marker, linestyle="none", zorder=5, gid="clipped", **style)
        text = f"{value:#.3g}".replace("-", "−")
        how = {"xytext": (-0.5, 6 * up), "textcoords": "offset points", "ha": "right", "va": side, "rotation": 90}
        halo = [withStroke(linewidth=1.5, foreground="white")]
        ax.annotate(text, (place, edge), fontsize=5, zorder=6, path_effects=halo, **how)
    return bool(beyond.any())
