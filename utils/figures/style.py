"""What all figures share: sizes, style, names and their order, and how a figure is laid out and saved.

No figure passes through pyplot, so that hundreds can be drawn in one process; sizes are those of a journal page (single
column 8.5 cm, double 17 cm).
"""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.markers import CARETDOWN, CARETUP
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path

from utils.common.files import whole_file

SINGLE, DOUBLE = 8.5 / 2.54, 17.0 / 2.54  # widths of a journal's columns, inches
TALLEST = 22.5 / 2.54  # what fits on a page above a caption, inches
UNITS = "m³ m⁻³"
STYLE = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 7, "legend.frameon": False}
STYLE |= {"axes.titlesize": "medium", "axes.titlelocation": "left", "axes.titlepad": 3, "axes.labelpad": 2}
STYLE |= {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}
STYLE |= {"xtick.major.size": 2, "ytick.major.size": 2, "xtick.major.pad": 2, "ytick.major.pad": 2}
STYLE |= {"pdf.fonttype": 42}  # TrueType: journals refuse type 3
TITLE_SIZE = 8

EXPERIMENTS = {
    "ERA5test": "trained and tested on ERA5-Land",
    "SMAPtest": "trained and tested on SMAP",
    "finetune-SMAPtest": "ERA5-Land, then fine-tuned on SMAP",
}
MODELS = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # the order of the paper; others follow
FORECASTS = ("#0072b2", "#56b4e9", "#009e73", "#cc79a7")  # of Okabe and Ito: colour-blind readers tell them apart


@rc_context(STYLE)
def save(figure: Figure, path: Path, vector: bool = False) -> None:
    """Write `path` (.png, 300 dpi) and, for the study's figures, the same as vector PDF beside it.

    What is drawn as a picture in the PDF (the inside of maps) has 600 dpi.
    """
    path = Path(path)
    for name, dpi in ((path, 300), (path.with_suffix(".pdf"), 600))[: 1 + vector]:
        with whole_file(name) as partial:
            figure.savefig(partial, format=name.suffix[1:], dpi=dpi)


def new_figure(width: float, body: float, title: str) -> tuple[Figure, Callable[..., tuple[float, ...]]]:
    """A figure with the whole title, wrapped, above a body of the given height, inches.

    The second result places axes: x, y, width, height in inches from the lower left → fractions of the figure.
    """
    lines = wrap(title, width - 0.2, TITLE_SIZE)
    height = body + 0.08 + len(lines) * 1.25 * TITLE_SIZE / 72
    figure = Figure(figsize=(width, height))
    style = {"family": STYLE["font.sans-serif"], "size": TITLE_SIZE, "va": "top", "linespacing": 1.15}
    figure.text(0.1 / width, 1 - 0.06 / height, "\n".join(lines), parse_math=False, **style)
    return figure, lambda x, y, w, h: (x / width, y / height, w / width, h / height)


def wrap(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """The lines of a text in letters of `size` points that is to be no wider than `width` inches."""
    font = FontProperties(family=STYLE["font.sans-serif"], size=size, weight="bold" if bold else "normal")
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


def axis_limits(values: Float[np.ndarray, "..."], lowest: float = -np.inf) -> tuple[float, float]:
    """Limits, with a margin, of the finite values not below `lowest` and within Tukey's outer fences.

    The fences stand 3 interquartile ranges outside the quartiles, so that one bad model does not squeeze all others
    into a corner; what lies beyond is for `mark_clipped`.
    """
    values = values[np.isfinite(values)]
    values = values[values >= lowest] if (values >= lowest).any() else values
    lower, upper = np.quantile(values, (0.25, 0.75))
    reach = 3 * (upper - lower)
    values = values[(values >= lower - reach) & (values <= upper + reach)]
    margin = 0.07 * np.ptp(values) or 0.1 * abs(values[0]) or 0.1
    return values.min() - margin, values.max() + margin


def mark_clipped(ax: Axes, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], colors: Iterable) -> bool:
    """Put a triangle on the edge of the axes and write the value, for each y beyond the limits; tell whether any is."""
    low, high = ax.get_ylim()
    beyond = np.isfinite(y) & ((y < low) | (y > high))
    for place, value, color in zip(x[beyond], y[beyond], np.asarray(colors)[beyond], strict=True):
        edge, marker, up, side = (low, CARETDOWN, 1, "bottom") if value < low else (high, CARETUP, -1, "top")
        style = {"markersize": 5, "color": color, "markeredgecolor": "0.2", "markeredgewidth": 0.4}
        ax.plot([place], [edge], marker=marker, linestyle="none", zorder=5, gid="clipped", **style)
        text = f"{value:#.3g}".replace("-", "−")
        how = {"xytext": (0, 6 * up), "textcoords": "offset points", "ha": "center", "va": side, "rotation": 90}
        halo = [withStroke(linewidth=1.5, foreground="white")]
        ax.annotate(text, (place, edge), fontsize=5.5, zorder=6, path_effects=halo, **how)
    return bool(beyond.any())
