"""A study's forecasts of held-out days, and those under the lags of an operational service, with the same fits."""

from pathlib import Path
from typing import Any

from utils.common.files import write_json
from utils.dataset.lags import KnownInputs
from utils.forecasts.cross_validation import InputFaults, cross_validate, describe_state, forecast_test_days
from utils.study.plan import Plan, Task
from utils.training.checkpoint import load_finished

LAGS = {"soil_moisture": 3, "precipitation": 5, "soil_temperature": 5}  # days: of SMAP L4, and of ERA5-Land
ON_TIME, LATE = InputFaults(), InputFaults(KnownInputs(LAGS).behind)


def with_outages(inputs: InputFaults) -> InputFaults:
    """The same inputs, with soil moisture hidden in outages."""
    return InputFaults(inputs.behind, outages=True)


def held_out_folder(task: Task) -> str:
    """The folder of a run's forecasts of the days it learned from."""
    return f"{task.folder.as_posix()}/held_out"


def operational_folder(task: Task) -> str:
    """The folder of its forecasts under lags."""
    return f"{task.folder.as_posix()}/operational"


def make_held_out(plan: Plan, task: Task) -> dict[str, Any]:
    """Forecast the days a run learned from by models that had not seen them, where that is missing."""
    cross_validate(plan.runs / task.folder, quiet=True)
    return {}


def make_operational(plan: Plan, task: Task) -> dict[str, Any]:
    """Forecast held-out and test days with late inputs and with outages, where that is missing."""
    run_dir = plan.runs / task.folder
    for faults in (LATE, with_outages(ON_TIME), with_outages(LATE)):
        cross_validate(run_dir, quiet=True, faults=faults)
        forecast_test_days(run_dir, faults)
    write_json(run_dir / "operational" / "metrics.json", describe_state(load_finished(run_dir)))
    return {}


def find_test(run_dir: Path, inputs: InputFaults) -> Path:
    """Where the forecasts of the test days with such inputs are."""
    if inputs == ON_TIME:
        return run_dir / "predictions.nc"
    return run_dir / "operational" / inputs.folder / "predictions.nc"


def find_held_out(run_dir: Path, inputs: InputFaults) -> Path:
    """Where those of the held-out days are."""
    return run_dir / "held_out" / inputs.folder / "predictions.nc"
