"""Every command and every Python block of docs/tour.md runs, in order, on tiny data at the places the tour names."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import warm_python
import xarray as xr
from conftest import ROOT, tiny
from PIL import Image
from warm_python import CLIENT

from utils.dataset.prepared import write_prepared
from utils.forecasts.calibration import AGES, FEW, FEWEST, FEWEST_OF_AGE, LEVELS
from utils.forecasts.cross_validation import FOLDS
from utils.products.synthetic.predictability_limit import LIMITS, write_limit

PAGE = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
FORECASTS = (ROOT / "docs" / "forecast.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CODE = [(kind, text) for kind, text in BLOCKS if kind in ("bash", "python")]
NEEDED = ("ERA5test", "SMAPtest", "finetune-SMAPtest", "utils", "data", "docs", "*.py", "CITATION.cff")
SHAPE = (6, 7)
QUICKER = {  # in the copy alone: coarser figures, fewer steps
    "utils/figures/style.py": ("dpi=dpi", "dpi=50"),
    "utils/forecasts/figures.py": ("DPI = 150", "DPI = 50"),
    "utils/training/compact.py": ("STEPS = 4000", "STEPS = 100"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A checkout with a tiny sample in place of the sample of 2 degrees."""
    folder = tmp_path_factory.mktemp("house")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *NEEDED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name, (own, quick) in QUICKER.items():
        text = (folder / name).read_text(encoding="utf-8")
        assert own in text
        (folder / name).write_text(text.replace(own, quick), encoding="utf-8")
    sample = folder / "data" / "sample"
    smap = tiny(days=1461, shape=SHAPE)
    smap = smap.assign(air_temperature=smap["soil_temperature"] - 2, clay=smap["soil_moisture"][0])
    write_prepared(tiny(days=1185, start="2015-01-01", shape=SHAPE, seed=1), sample / "era5_land_2deg.nc")
    write_prepared(smap, sample / "smap_l4_2deg.nc")
    best = smap["soil_moisture"].expand_dims(lead_days=[3]) + np.float32(0.001)
    limit = xr.Dataset({name: best for name in LIMITS})
    write_limit(limit, sample / "smap_l4_2deg.nc", sample / "limit_2deg.nc", {"title": "SYNTHETIC"})
    return folder


@pytest.fixture(scope="module")
def printed(house) -> str:
    """What a reader sees who gives every command of the tour, in order, in one go."""
    (house / "tour.json").write_text(json.dumps(CODE), encoding="utf-8")
    client = house / "bin" / "python"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable))
    client.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(house), "PATH": f"{client.parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        done = subprocess.run(
            [sys.executable, warm_python.__file__, "tour.json"],
            cwd=house,
            env=environment | {"WARM_PYTHON": f"{folder}/socket"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_every_block_runs(printed):
    assert len(re.findall(r"^--- [\d.]+ s$", printed, re.MULTILINE)) == len(CODE) > 12


def test_nothing_but_the_wrong_unit_is_refused(printed):
    """And the sentence is the one that the page shows."""
    refused = [line for line in printed.splitlines() if line.startswith("error: ")]
    (shown,) = (text.strip() for kind, text in BLOCKS if kind == "text")
    assert len(refused) == 1 and refused[0].endswith("/" + shown)
    assert "Traceback" not in printed


def test_chapters_leave_what_they_say(house, printed):
    results, tour = house / "results-tour", house / "runs" / "tour"
    assert (results / "report.html").exists()
    assert set(pd.read_csv(results / "table.csv")["model"]) >= {"cnn", "compact", "persistence"}
    assert (tour / "mymodel" / "figures" / "map.png").exists()
    settings = json.loads((tour / "more_predictors" / "config.json").read_text())["settings"]
    assert settings["predictors"]["value"][-1] == "air_temperature" and settings["static"]["value"] == ["clay"]
    assert json.loads((tour / "90_days" / "config.json").read_text())["settings"]["target_days"]["value"] == 90
    with xr.open_dataset(tour / "forecast.nc") as forecast:
        assert forecast["lead_time"].values.tolist() == [3, 5]
        assert forecast["init_time"].values == np.datetime64("2019-03-30") and forecast.attrs["synthetic"] == "true"
    with Image.open(tour / "forecast.gif") as picture:
        assert picture.n_frames == 2
    assert (tour / "forecast.png").exists() and (tour / "forecast.pdf").exists()
    with xr.open_dataset(tour / "july.nc") as hindcasts:
        assert hindcasts.sizes["init_time"] == 31
    with xr.open_dataset(tour / "joined_forecast.nc") as forecast:
        assert forecast.sizes["lat"] == forecast.sizes["lon"] == 8 and forecast.attrs["synthetic"] == "true"
    (row,) = json.loads((tour / "july.scores.json").read_text())["leads"]
    assert row["lead_days"] == 3 and 0 <= row["coverage_90"] <= 1


def test_the_page_on_forecasts_describes_the_file(house, printed):
    rows = re.findall(r"^\| (`[^|]+`) \| [^|]+ \| ([^|]+) \|", FORECASTS, re.MULTILINE)
    told = {name: unit for names, unit in rows for name in re.findall(r"`(\w+)`", names)}
    with xr.open_dataset(house / "runs" / "tour" / "forecast.nc", decode_timedelta=False) as forecast:
        assert told.keys() == set(forecast.variables)
        for name, unit in told.items():
            found = forecast[name].attrs.get("units", "1" if name == "crs" else "date")
            assert found == {"degrees": f"degrees_{'north' if name == 'lat' else 'east'}"}.get(unit, unit)


def test_the_page_on_forecasts_has_the_numbers_of_the_code():
    for number in (FEW, FEWEST, FEWEST_OF_AGE):
        assert re.search(rf"(?<![\d.,]){number:,}(?![\d.])", FORECASTS)
    assert f"{', '.join(map(str, AGES[:-1]))} and {AGES[-1]} days on" in FORECASTS
    assert FOLDS == 4 and "four blocks of time" in FORECASTS and LEVELS[[0, -1]].tolist() == [0.05, 0.95]


def test_the_example_is_twenty_lines():
    (script,) = (text for _, text in CODE if "train_mymodel.py <<" in text)
    model = script[script.index("class MyModel") : script.index("if __name__")]
    assert sum(bool(line.strip()) for line in model.splitlines()) <= 20


def test_the_notebook_has_a_cell_for_every_block(tmp_path):
    out = tmp_path / "tour.ipynb"
    command = [sys.executable, "-m", "jupytext", "--to", "notebook", "--output", str(out)]
    subprocess.run([*command, str(ROOT / "docs" / "tour.md")], check=True, capture_output=True)
    notebook = json.loads(out.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells == [("%%bash\n" if kind == "bash" else "") + text.rstrip() for kind, text in CODE]
    assert notebook["metadata"]["kernelspec"]["language"] == "python"


def test_numbers_in_the_prose_are_those_of_the_commands():
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|^## \d\.", "", prose, flags=re.DOTALL | re.MULTILINE)
    code = "\n".join(text for _, text in CODE)
    for number in re.findall(r"\d+(?:\.\d+)?", prose):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", code), number
