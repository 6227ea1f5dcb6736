"""The fields of a NetCDF file: what cfgrib and the Climate Data Store make of GRIB, with a model run and a step.

NetCDF does not say from which hour rain is summed up. As in ECMWF's files, that is the start of the model run; days.py
refuses rain that falls from step to step.
"""

import itertools

import numpy as np
import xarray as xr

from utils.common.cli import UserError, fold
from utils.dataset.prepared import check_axes
from utils.products.raw_files import RawFile, explain
from utils.products.weather.fields import Field, Place, convert

NAMES = {  # of the variables, lower case
    "precipitation": ("tp", "apcp", "apcp_surface", "total_precipitation"),
    "soil_moisture": ("vsw", "swvl1", "soilw", "volumetric_soil_water_layer_1"),
}
AXES = {  # of the dimensions and coordinates
    "run": ("forecast_reference_time", "reference_time", "init_time", "time"),
    "step": ("step", "forecast_period", "prediction_timedelta", "lead_time"),
    "lat": ("latitude", "lat"),
    "lon": ("longitude", "lon"),
}
UPPERMOST = {"soilLayer": 1.0, "depthBelowLandLayer": 0.0}  # coordinates by which cfgrib names the layer of a field
HOUR = np.timedelta64(1, "h")


def scan(file: RawFile) -> tuple[list[Field], list[str]]:
    """The fields of wanted variables, and the names of all.

    Raises Unreadable for a damaged file, UserError where a variable has no run, no step or an unknown unit.
    """
    with _open(file) as ds:
        names = [str(name) for name in ds.data_vars]
        fields = []
        for variable, spellings in NAMES.items():
            for name in names:
                if name.lower() in spellings:
                    fields += _fields_of(file, ds, variable, name)
        return fields, names


def read(field: Field) -> np.ndarray:
    """All values of a field in the file's unit, missing ones NaN. Raises OSError where it is damaged."""
    with _open(field.file) as ds:
        values = _on_axes(ds, field.name, field.file)
        try:
            return values[field.position].values.astype(np.float64)
        except Exception as error:  # netCDF4 and h5py raise their own kinds
            raise OSError(fold(error)) from error


def _open(file: RawFile) -> xr.Dataset:
    try:
        return xr.open_dataset(file.path, engine="netcdf4", decode_timedelta=True)
    except Exception as error:  # every engine raises its own kinds
        raise explain(file, error) from error


def _fields_of(file: RawFile, ds: xr.Dataset, variable: str, name: str) -> list[Field]:
    values = _on_axes(ds, name, file)
    if any(float(values[layer]) != first for layer, first in UPPERMOST.items() if layer in values.coords):
        return []
    check_axes(values.to_dataset(name=name), file.path)
    runs, steps = values["run"].values, values["step"].values
    if runs.dtype.kind != "M" or steps.dtype.kind != "m":
        raise UserError(
            f"{file.name}: {name} has runs of type {runs.dtype} and steps of type {steps.dtype}, expected dates, and "
            "steps with a unit such as hours."
        )
    units = values.attrs.get("units")
    if units is None:
        raise UserError(f"{file.name}: {name} has no units attribute, so that its values could mean anything.")
    conversion = convert(variable, name, str(units), file)
    place = Place(values["lat"].values.astype(np.float64), values["lon"].values.astype(np.float64))
    fields = []
    for (i, run), (k, step) in itertools.product(enumerate(runs), enumerate(steps)):
        end = int(step / HOUR)
        if variable == "precipitation" and not end:
            continue  # the sum of no time
        fields.append(
            Field(
                file=file,
                variable=variable,
                name=name,
                run=run.astype("datetime64[h]"),
                hours=(0, end) if variable == "precipitation" else (end, end),
                conversion=conversion,
                model=fold(values.attrs.get("GRIB_centre") or ds.attrs.get("GRIB_centre") or ""),
                place=place,
                position=(i, k),
            )
        )
    return fields


def _on_axes(ds: xr.Dataset, name: str, file: RawFile) -> xr.DataArray:
    """A variable as [run, step, lat, lon]. Raises UserError where it has no such axes, or a further one."""
    values = ds[name]
    for axis, names in AXES.items():
        there = next((other for other in names if other in values.coords), None)
        if there is None:
            raise UserError(
                f"{file.name}: {name} has no {names[0]}, found {', '.join(map(str, ds[name].coords))}; expected the "
                "start of the model run, the step, latitude and longitude."
            )
        values = values.rename({there: axis})
        if not values[axis].ndim:
            values = values.expand_dims(axis)
    values = values.squeeze([axis for axis in values.dims if axis not in AXES and values.sizes[axis] == 1])
    further = [str(axis) for axis in values.dims if axis not in AXES]
    if further:
        raise UserError(f"{file.name}: {name} has the further dimension {further[0]}; choose one of its values first.")
    return values.transpose(*AXES)
