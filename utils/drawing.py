"""What all figures share: sizes, style, names and their order, and how a figure is laid out and saved.

No figure passes through pyplot, so that hundreds can be drawn in one process; sizes are those of a journal page (single
column 8.5 cm, double 17 cm).
"""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from utils.files import whole_file

SINGLE, DOUBLE = 8.5 / 2.54, 17.0 / 2.54  # widths of a journal's columns, inches
UNITS = "m³ m⁻³"
STYLE = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 7, "legend.frameon": False}
STYLE |= {"axes.titlesize": "medium", "axes.titlelocation": "left", "axes.titlepad": 3, "axes.labelpad": 2}
STYLE |= {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}
STYLE |= {"xtick.major.size": 2, "ytick.major.size": 2, "xtick.major.pad": 2, "ytick.major.pad": 2}
TITLE_SIZE = 8

EXPERIMENTS = {
    "ERA5test": "trained and tested on ERA5-Land",
    "SMAPtest": "trained and tested on SMAP",
    "finetune-SMAPtest": "ERA5-Land, then fine-tuned on SMAP",
}
MODELS = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # the order of the paper; others follow
BASELINES = {  # colour and line style: they differ in grey too
    "persistence": ("#a50026", "solid"),
    "damped_persistence": ("#d6604d", (0, (4, 1, 1, 1))),
    "climatology": ("#e08214", (0, (3, 1.2))),
    "ridge": ("#7f3b08", (0, (1, 0.8))),
}


@rc_context(STYLE)
def save(figure: Figure, path: Path, vector: bool = False) -> None:
    """Write `path` (.png, 300 dpi) and, for the study's figures, the same as vector PDF beside it."""
    path = Path(path)
    for name in (path, path.with_suffix(".pdf")) if vector else (path,):
        with whole_file(name) as partial:
            figure.savefig(partial, format=name.suffix[1:], dpi=300)


def new_figure(width: float, body: float, title: str) -> tuple[Figure, Callable[..., tuple[float, ...]]]:
    """A figure with the whole title, wrapped, above a body of the given height, inches.

    The second result places axes: x, y, width, height in inches from the lower left → fractions of the figure.
    """
    font = FontProperties(family=STYLE["font.sans-serif"], size=TITLE_SIZE)
    for letters in range(160, 0, -4):
        wrapped = (textwrap.wrap(line, letters, break_on_hyphens=False) for line in title.splitlines())
        lines = [line for part in wrapped for line in part]
        widths = (text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)
        if max(widths, default=0) < 72 * (width - 0.2):
            break
    height = body + 0.08 + len(lines) * 1.25 * TITLE_SIZE / 72
    figure = Figure(figsize=(width, height))
    style = {"fontproperties": font, "va": "top", "linespacing": 1.15, "parse_math": False}
    figure.text(0.1 / width, 1 - 0.06 / height, "\n".join(lines), **style)
    return figure, lambda x, y, w, h: (x / width, y / height, w / width, h / height)


def ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: the known ones in their order, then the others as they come."""
    names = list(dict.fromkeys(names))
    return [n for n in known if n in names] + [n for n in names if n not in known]
