"""Tiny data sets and the scripts as a user runs them. Shapes in signatures are checked while the tests run."""

import io
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; and the same sums on every machine
install_import_hook("utils", "typecheck.check")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import xarray as xr  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402

from utils.common import parallel  # noqa: E402
from utils.common.files import ROOT  # noqa: E402
from utils.dataset.prepared import write_prepared  # noqa: E402

torch.set_num_threads(1)
REAL = ROOT.parent / "shared" / "realdata"
LONGEST = ("test_study.py", "test_jobs.py", "test_transfer_study.py", "test_tour.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: a long one at the end would leave the other cores idle."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def runs_of_this_test(tmp_path, monkeypatch):
    """Default run directories of scripts run in this process lie in the test's own folder."""
    import utils.evaluation
    import utils.training.setup

    monkeypatch.setattr(utils.training.setup, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(utils.evaluation, "RUNS", tmp_path / "runs")


SAVEFIG = Figure.savefig


@pytest.fixture(autouse=True, scope="session")
def blank_pictures():
    """What runs in this process saves blank pictures: to draw them took half of the time of test_forecast.py.

    Processes of their own draw in full, and so does a test that asks for `real_pictures`.
    """

    def save_blank(figure: Figure, file: Path, **how: object) -> None:
        Image.new("L", (4, 4)).save(file, format="png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        yield


@pytest.fixture
def real_pictures(monkeypatch):
    """Pictures are drawn in full."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)


def tiny(days: int = 120, start: str = "2015-03-31", shape: tuple[int, int] = (7, 8), seed: int = 0) -> xr.Dataset:
    """A data set of red-noise soil moisture in the form of a prepared data set, with a corner of sea."""
    rng = np.random.default_rng(seed)
    time = np.datetime64(start, "ns") + np.arange(days) * np.timedelta64(1, "D")
    lat, lon = np.linspace(54, 40, shape[0]), np.linspace(72, 88, shape[1])
    rain = rng.gamma(0.4, 8.0, (days, *shape))
    moisture = np.empty((days, *shape))
    state = rng.uniform(0.1, 0.4, shape)
    for day in range(days):
        state = np.clip(0.9 * state + 0.002 * rain[day] + 0.015, 0.02, 0.5)
        moisture[day] = state
    season = 10 * np.sin(2 * np.pi * np.arange(days) / 365)[:, None, None]
    temperature = 285 + season + rng.normal(0, 2, (days, *shape))
    sea = np.zeros(shape, bool)
    sea[-2:, :3] = True
    values = {"precipitation": rain, "soil_moisture": moisture, "soil_temperature": temperature}
    ds = xr.Dataset(
        {name: (("time", "lat", "lon"), np.where(sea, np.nan, v).astype("f4")) for name, v in values.items()},
        coords={"time": time, "lat": lat, "lon": lon},
        attrs={"title": "SYNTHETIC test data", "synthetic": "true"},
    )
    return ds


PERIODS = "--train 2015-03-31 2015-05-31 --val 2015-06-01 2015-06-30 --test 2015-07-01 2015-07-28".split()


@pytest.fixture
def smap(tmp_path) -> Path:
    """A tiny SMAP-like file: 120 days from 2015-03-31; PERIODS fit it."""
    path = tmp_path / "smap.nc"
    write_prepared(tiny(), path)
    return path


@pytest.fixture
def era5(tmp_path) -> Path:
    """A tiny source file that ends before the test period of PERIODS."""
    path = tmp_path / "era5.nc"
    write_prepared(tiny(days=150, start="2015-01-01", seed=1), path)
    return path


ERA5_PERIODS = "--train 2015-01-01 2015-03-31 --val 2015-04-01 2015-04-30 --test 2015-05-01 2015-05-30".split()


class Result:
    """What a script printed and how it ended."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    def sentence(self) -> str:
        """The one sentence of a refusal: nothing else is on stderr, and the exit is not zero."""
        assert self.code != 0, self.out
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        return lines[0]


def run_script(name: str, *arguments: object) -> int:
    """The exit code of a script that runs in this process exactly as `python SCRIPT ARGUMENTS` would."""
    main, argv = sys.modules["__main__"], sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.modules["__main__"], sys.argv = main, argv
    return 0


@pytest.fixture
def script(capfd):
    """Run a script in this process."""

    def run(name: str, *arguments: object) -> Result:
        capfd.readouterr()
        return Result(run_script(name, *arguments), *capfd.readouterr())

    return run


def quick_study(*arguments: object) -> Result:
    """Run reproduce.py in this process, which does the jobs one after the other."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(parallel, "processes", lambda number: ThreadPoolExecutor(1))
        code = run_script("reproduce.py", *arguments)
    return Result(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def subprocess_script(name: str, *arguments: object, **options) -> Result:
    """Run a script in a process of its own, from a folder that is not the repository."""
    done = subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # the script may write in another encoding
        timeout=300,
        check=False,
        cwd=options.pop("cwd", "/"),
        **options,
    )
    return Result(done.returncode, done.stdout, done.stderr)
