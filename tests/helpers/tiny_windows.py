"""The windows of a model on the tiny SMAP-like file of tests/conftest.py."""

from pathlib import Path
from typing import Any

from utils.common.periods import Split, spans
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.models import ForecastModel

SPLIT = Split(
    spans("train", ("2015-03-31", "2015-05-31")),
    spans("val", ("2015-06-01", "2015-06-30")),
    spans("test", ("2015-07-01", "2015-07-28")),
)


def windows_of(model: ForecastModel, path: Path, **options: Any) -> Windows:
    """All days, three days ahead, in units."""
    data = DataSet(path)
    return model.make_windows(data, data.statistics(SPLIT).unscaled(), lead_days=3, input_days=3, **options)
