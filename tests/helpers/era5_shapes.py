"""Hourly fields with known daily values, and writers of every file shape the Climate Data Store has used."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr

LAT = np.round(np.arange(33.0, 29.95, -0.25), 2)  # 13 rows, descending
LON = np.round(np.arange(110.0, 113.05, 0.25), 2)  # 13 columns
UNITS = {"swvl1": "m**3 m**-3", "stl1": "K", "tp": "m"}
LONG = {"swvl1": "Volumetric soil water layer 1", "stl1": "Soil temperature level 1", "tp": "Total precipitation"}
PARAM = {"swvl1": 39, "stl1": 139, "tp": 228}


@dataclass
class Truth:
    """Hours first 00 UTC … last 00 UTC, float32 [hour, lat, lon]; rain[k] fell in the hour ending at time k [m]."""

    time: pd.DatetimeIndex
    swvl1: np.ndarray
    stl1: np.ndarray
    rain: np.ndarray
    sea: np.ndarray

    @property
    def since_midnight(self) -> np.ndarray:
        """What ERA5-Land stores: the sum since 00 UTC, the value at 00 UTC being the whole day before."""
        out = np.empty_like(self.rain, dtype=np.float64)
        running = np.zeros(self.rain.shape[1:])
        for k, stamp in enumerate(self.time):
            running = self.rain[k] + (0 if stamp.hour == 1 else running)
            out[k] = running
        return out.astype(np.float32)

    def daily(self) -> dict[str, np.ndarray]:
        """By hand: means of hours 00 to 23, sums of the 24 hours ending 01 to 24 UTC, in mm."""
        days = (len(self.time) - 1) // 24
        noise_free = np.where((self.swvl1 < 0) & (self.swvl1 >= -0.01), 0, self.swvl1).astype(np.float64)
        return {
            "precipitation": np.stack(
                [1000 * self.rain[24 * d + 1 : 24 * d + 25].astype(np.float64).sum(0) for d in range(days)]
            ),
            "soil_moisture": np.stack([noise_free[24 * d : 24 * d + 24].mean(0) for d in range(days)]),
            "soil_temperature": np.stack(
                [self.stl1[24 * d : 24 * d + 24].astype(np.float64).mean(0) for d in range(days)]
            ),
        }


def truth(start="2015-03-30", days=4, lat=LAT, lon=LON, seed=0) -> Truth:
    rng = np.random.default_rng(seed)
    time = pd.date_range(start, periods=24 * days + 1, freq="h")
    shape = (len(time), len(lat), len(lon))
    sea = np.zeros(shape[1:], bool)
    sea[:3, -4:] = True
    swvl1 = rng.uniform(0.05, 0.5, shape).astype(np.float32)
    swvl1[:, 5, 5] = rng.uniform(-0.005, 0.02, len(time))  # a desert cell whose packing goes below zero
    rain = np.where(rng.random(shape) < 0.5, rng.exponential(0.0005, shape), 0).astype(np.float32)
    return Truth(time, swvl1, rng.uniform(260, 310, shape).astype(np.float32), rain, sea)


def fields(t: Truth, hourly_totals=False, sea=np.nan) -> dict[str, np.ndarray]:
    out = {"swvl1": t.swvl1.copy(), "stl1": t.stl1.copy(), "tp": (t.rain if hourly_totals else t.since_midnight).copy()}
    for values in out.values():
        values[:, t.sea] = sea
    return out


def new_cds(path: Path, t: Truth, values: dict, hours=slice(None), lon=LON, expver="0001", lat=LAT, **encoding) -> Path:
    """Since 2024: valid_time, string expver (scalar or one per time), scalar number, NaN on sea."""
    time = t.time[hours]
    ds = xr.Dataset(
        {
            name: (
                ("valid_time", "latitude", "longitude"),
                data[hours],
                {"units": UNITS[name], "long_name": LONG[name], "GRIB_paramId": np.int64(PARAM[name])},
            )
            for name, data in values.items()
        },
        {"valid_time": time, "latitude": lat, "longitude": lon},
    )
    several = ("valid_time", np.array(expver)[hours]) if not isinstance(expver, str) else expver
    ds = ds.assign_coords(number=0, expver=several)
    ds.to_netcdf(path, encoding={n: {"zlib": True, **encoding} for n in values})
    return path


def old_cds(path: Path, t: Truth, values: dict, expver=None, lsm=None, hours=slice(None)) -> Path:
    """Before 2024: NETCDF3, time since 1900, int16 with scale and offset, perhaps expver as a dimension."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as ds:
        time = t.time[hours]
        dims = ["time", "expver", "latitude", "longitude"] if expver else ["time", "latitude", "longitude"]
        axes = {"longitude": LON.astype("f4"), "latitude": LAT.astype("f4")}
        axes |= {"expver": np.array(expver, "i4")} if expver else {}
        for name, data in axes.items():
            ds.createDimension(name, len(data))
            ds.createVariable(name, data.dtype, (name,))[:] = data
        ds.createDimension("time", None)
        stamp = ds.createVariable("time", "i4", ("time",))
        stamp.units, stamp.calendar = "hours since 1900-01-01 00:00:00.0", "gregorian"
        stamp[:] = ((time - pd.Timestamp("1900-01-01")) / pd.Timedelta("1h")).astype(int)
        values = {name: data[hours] for name, data in values.items()}
        if lsm is not None:
            values["lsm"] = np.broadcast_to(lsm, (len(time), *lsm.shape))
        for name, data in values.items():
            variable = ds.createVariable(name, "i2", dims, fill_value=-32767)
            low, high = np.nanmin(data), np.nanmax(data)
            variable.scale_factor, variable.add_offset = (high - low) / 65000, (high + low) / 2
            variable.missing_value = np.int16(-32767)
            variable.units, variable.long_name = UNITS.get(name, "(0 - 1)"), LONG.get(name, "Land-sea mask")
            variable.set_auto_maskandscale(False)
            packed = np.round((data - variable.add_offset) / variable.scale_factor)
            variable[:] = np.where(np.isnan(packed), -32767, packed).astype("i2")
    return path


def zipped(path: Path, members: dict[str, Path]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in members.items():
            archive.write(file, name)
    return path


def grib(path: Path, t: Truth, values: dict, land=True, hours=slice(None), expver="0001") -> Path:
    """Instant fields as analyses, precipitation as forecast steps: of the day's 00 UTC run (Land) or 18 and 06 UTC."""
    import eccodes

    with path.open("wb") as stream:
        for name, data in values.items():
            for k in range(len(t.time))[hours]:
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
                stamp, step = t.time[k], 0
                if name == "tp":
                    step = (stamp.hour or 24) if land else (stamp.hour - 7) % 12 + 1
                base = stamp - pd.Timedelta(hours=step)
                keys = {
                    "paramId": PARAM[name],
                    "Ni": len(LON),
                    "Nj": len(LAT),
                    "latitudeOfFirstGridPointInDegrees": float(LAT[0]),
                    "latitudeOfLastGridPointInDegrees": float(LAT[-1]),
                    "longitudeOfFirstGridPointInDegrees": float(LON[0]),
                    "longitudeOfLastGridPointInDegrees": float(LON[-1]),
                    "iDirectionIncrementInDegrees": 0.25,
                    "jDirectionIncrementInDegrees": 0.25,
                    "jScansPositively": 0,
                    "dataDate": int(base.strftime("%Y%m%d")),
                    "dataTime": base.hour * 100,
                    "bitsPerValue": 24,
                    "bitmapPresent": 1,
                    "missingValue": 9999,
                }
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                if name == "tp":
                    eccodes.codes_set(message, "stepType", "accum")
                    eccodes.codes_set(message, "stepRange", f"{0 if land else step - 1}-{step}")
                field = np.where(np.isnan(data[k]), 9999, data[k].astype(np.float64))
                eccodes.codes_set_values(message, field.ravel())
                eccodes.codes_write(message, stream)
                eccodes.codes_release(message)
    return path
