"""What a study leaves behind: table.csv, figures, report.html and provenance.json."""

import base64
import html
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from utils import Drawplot
from utils.files import whole_file, write_json
from utils.tables import without_na

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; font-size: 0.85rem; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 0.2rem 0.6rem; text-align: right; }}
</style>
<h1>{title}</h1>
<p>RMSE in m³ m⁻³, MSE in m⁶ m⁻⁶, R² and skill 1 − MSE / MSE of persistence, pooled and unweighted over all valid
cell-days of the test period. Persistence, climatology and ridge are scored on the same cell-days. One seed says
nothing about significance.</p>
<figure><img src="data:image/png;base64,{study}" alt="RMSE of every model and baseline by experiment and lead"></figure>
{table}
<h2>Maps and scatter plots</h2>
<ul>{figures}</ul>
<h2>What made these numbers</h2>
<pre>{provenance}</pre>
"""


def write_report(out: Path, long: pd.DataFrame, run_dirs: list[Path], study: dict[str, Any]) -> None:
    """Write the results of the runs in `run_dirs`, which lie below out/runs; `study` says how they came about."""
    with whole_file(out / "table.csv") as partial:
        long.to_csv(partial, index=False, float_format="%.8g")
    synthetic = bool((long["data"] == "SYNTHETIC sample").any())
    title = "Soil-moisture forecasts" + (" of the SYNTHETIC sample" if synthetic else "")
    figures = out / "figures"
    Drawplot.draw_study(long, title, figures / "study.png")
    names = []
    for run_dir in run_dirs:
        for figure in ("map", "scatter"):
            if not (run_dir / "figures" / f"{figure}.png").exists():
                continue
            names.append("_".join([figure, *run_dir.relative_to(out / "runs").parts]) + ".png")
            with whole_file(figures / names[-1]) as partial:
                shutil.copyfile(run_dir / "figures" / f"{figure}.png", partial)
    provenance = {**study, "runs": [_provenance(run_dir) for run_dir in run_dirs]}
    write_json(out / "provenance.json", provenance)
    page = _PAGE.format(
        title=title,
        study=base64.b64encode((figures / "study.png").read_bytes()).decode(),
        table=without_na(long).to_html(index=False, float_format="{:.4g}".format, border=0),
        figures="".join(f'<li><a href="figures/{name}">{html.escape(name)}</a></li>' for name in names),
        provenance=html.escape(json.dumps(study | {"first run": provenance["runs"][0]}, indent=2)),
    )
    with whole_file(out / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")


def _provenance(run_dir: Path) -> dict[str, Any]:
    """run.json without the place of the data on the machine that ran it."""
    content = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    return {"run": "/".join(run_dir.parts[-4:]), **content, "data": Path(content["data"]).name}
