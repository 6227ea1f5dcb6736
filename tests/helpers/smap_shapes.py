"""SMAP L4 as AppEEARS, OPeNDAP and Harmony give it, and SMAP L3 granules."""

from pathlib import Path

import h5py
import netCDF4
import numpy as np
from smap_granules import PATHS, X, Y

FLAT = {name: path.replace("/", "_") for name, (path, _) in PATHS.items()}


def appeears(path: Path, days: np.ndarray, maps: dict[str, np.ndarray], lat, lon, periods=None, fill=True) -> Path:
    """One NetCDF of AppEEARS: [time, day_period, lat, lon], flattened names, a calendar that it calls Julian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as ds:
        for name, values in (("lat", lat), ("lon", lon)):
            ds.createDimension(name, len(values))
            axis = ds.createVariable(name, "f8", (name,))
            axis[:], axis.units = values, {"lat": "degrees_north", "lon": "degrees_east"}[name]
        ds.createDimension("time", len(days))
        ds.createDimension("day_period", 8)
        time = ds.createVariable("time", "i4", ("time",))
        time.units, time.calendar = "days since 2000-01-01 00:00:00", "julian"
        time[:] = (days - np.datetime64("2000-01-01", "D")).astype(int)
        if periods is not None:
            ds.createVariable("day_period", "f4", ("day_period",))[:] = periods
        ds.createVariable("crs", "S1").grid_mapping_name = "latitude_longitude"
        for name, values in maps.items():
            dims = ("time", "day_period", "lat", "lon")
            variable = ds.createVariable(FLAT[name], "f4", dims, zlib=True, fill_value=-9999.0 if fill else None)
            variable.units = PATHS[name][1]
            variable.set_auto_maskandscale(False)
            variable[:] = np.where(np.isnan(values), -9999, values)
    return path


def reshaped(granule: Path, xy="root", flat=False, fill=True, lat_share=1.0, degrees=None) -> Path:
    """A granule in place as a server gives it: groups flattened, x and y elsewhere or gone, −9999 without _FillValue.

    `lat_share`: how many of cell_lat's values are left; `degrees`: (y, x) that replace those in metres.
    """
    with h5py.File(granule) as file:
        fields = {path: file[path][:] for path, _ in PATHS.values()}
        lat, lon, x, y = (file[name][:] for name in ("cell_lat", "cell_lon", "x", "y"))
    rng = np.random.default_rng(0)
    lat, lon = (np.where(rng.random(values.shape) < lat_share, values, -9999) for values in (lat, lon))
    with h5py.File(granule, "w") as file:
        for path, values in fields.items():
            stored = file.create_dataset(path.replace("/", "_") if flat else path, data=values)
            if fill:
                stored.attrs["_FillValue"] = np.float32(-9999)
        file["cell_lat"], file["cell_lon"] = lat.astype("f4"), lon.astype("f4")
        if xy != "none":
            where = "" if xy == "root" else "Geophysical_Data/"
            file[f"{where}x"], file[f"{where}y"] = (x, y) if degrees is None else degrees[::-1]
            if degrees is not None:
                file["x"].attrs["units"], file["y"].attrs["units"] = b"degrees_east", b"degrees_north"
    return granule


def l3_granule(
    folder: Path, day: str, maps: dict[str, np.ndarray], enhanced=False, rows=slice(None), columns=slice(None),
    version="R19240_001", quality=None, units=b"cm**3/cm**3", share=0.5,
) -> Path:  # fmt: skip
    """A file of SPL3SMP or SPL3SMP_E: `maps` of "AM" and "PM" [rows, columns], −9999 where nothing was retrieved."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"SMAP_L3_SM_P_{'E_' if enhanced else ''}{day.replace('-', '')}_{version}.h5"
    step = 1 if enhanced else 4
    y, x = (axis.reshape(-1, step).mean(1) for axis in (Y, X))
    from pyproj import Transformer

    to_degrees = Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True).transform
    lon, lat = to_degrees(*np.meshgrid(x[columns], y[rows]))
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for overpass, values in maps.items():
            suffix = "_pm" if overpass == "PM" else ""
            group = file.create_group(f"Soil_Moisture_Retrieval_Data_{overpass}")
            field = group.create_dataset(f"soil_moisture{suffix}", data=values.astype("f4"))
            field.attrs.update({"_FillValue": np.float32(-9999), "units": units})
            field.attrs.update({"valid_min": np.float32(0.02), "valid_max": np.float32(0.5)})
            flag = np.zeros(values.shape, "u2") if quality is None else quality[overpass]
            group[f"retrieval_qual_flag{suffix}"] = np.where(values == -9999, 65534, flag).astype("u2")
            swath = rng.random(values.shape) < share
            for name, degrees in (("latitude", lat), ("longitude", lon)):
                group[f"{name}{suffix}"] = np.where(swath, degrees, -9999).astype("f4")
    return path
