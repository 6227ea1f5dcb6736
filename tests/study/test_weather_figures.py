"""What knowing the weather ahead is worth: the question's answer and its figure."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import PERIODS
from figure_checks import assert_tidy

from utils.common.cli import UserError
from utils.products.synthetic.forecast_file import ForecastSettings, make_forecasts
from utils.study.questions.weather_forecasts import _weather_figure, weather


def evaluated(script, smap, out, *arguments, leads=(1, 2)):
    """Run directories of a pixel LSTM, trained a little and evaluated."""
    found = []
    for lead in leads:
        run_dir = out / f"lead{lead}"
        common = ["--data", smap, *PERIODS, "--lead-days", lead, "--input-days", 2, "--epochs", 8, "--lr", 0.01]
        done = script("SMAPtest/train_pixel_lstm.py", *common, "--out", run_dir, "--hidden", 8, *arguments)
        assert done.code == 0, done.err
        assert script("SMAPtest/eval.py", run_dir).code == 0
        found.append(run_dir)
    return found


def test_what_knowing_the_weather_is_worth(tmp_path, smap, script):
    make_forecasts(ForecastSettings(data=smap, out=tmp_path / "fc.nc", lead_days=2))
    none = evaluated(script, smap, tmp_path / "none")
    perfect = evaluated(script, smap, tmp_path / "perfect", "--future-precipitation")
    how = ("--future-precipitation", "--future-from", tmp_path / "fc.nc")
    degraded = evaluated(script, smap, tmp_path / "degraded", *how)
    section = weather(none, degraded, perfect, tmp_path / "figures")
    assert (tmp_path / "figures" / "weather.png").exists() and (tmp_path / "figures" / "weather.pdf").exists()
    assert "upper bound" in section.note and "SYNTHETIC error" in section.note
    for run_dir in (*none, *perfect):
        with xr.open_dataset(run_dir / "predictions.nc") as ds:
            rmse = float(np.sqrt(((ds["predicted"] - ds["observed"]) ** 2).mean()))
        assert f"{rmse:.4f}" in " ".join(section.points)
    with pytest.raises(UserError, match="was given as a run with perfect weather ahead, but it knows none of it"):
        weather(none, degraded, none, tmp_path / "figures")
    with pytest.raises(UserError, match="was given as a run with degraded weather ahead, but it knows the rain"):
        weather(none, perfect, perfect, tmp_path / "figures")
    with pytest.raises(UserError, match="other leads or seeds"):
        weather(none, degraded[:1], perfect, tmp_path / "figures")


def test_the_figure_of_the_weather_is_tidy_and_tells_chance_from_gain():
    """An interval that holds 0 has a hollow marker; nothing is cut off, nothing overlaps."""
    rows = [{"kind": "none", "lead_days": lead, "rmse": 0.04, "low": 0.035, "high": 0.045} for lead in (3, 5, 7)]
    for kind, change in (("degraded", -2.0), ("perfect", -12.0)):
        ends = {"change": change, "change_low": change - 3, "change_high": change + 3}
        rows += [row | {"kind": kind, "rmse": 0.04 * (1 + change / 100)} | ends for row in rows[:3]]
    figure = _weather_figure(pd.DataFrame([*rows, {"kind": "persistence", "lead_days": 5, "rmse": 0.05}]), "A title")
    assert_tidy(figure)
    marked = [line for line in figure.axes[1].get_lines() if line.get_marker() not in ("None", None)]
    assert [line.get_markerfacecolor() == "white" for line in marked] == [True] * 3 + [False] * 3
    assert "hollow: it does not" in [text.get_text() for text in figure.legends[0].get_texts()]
    with pytest.raises(UserError, match="holds no RMSE"):
        _weather_figure(pd.DataFrame([{"kind": "none", "lead_days": 3, "rmse": np.nan}]), "A title")
