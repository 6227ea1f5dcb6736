"""Weather forecasts as GRIB files and as ECMWF's open data, made by ecCodes, with a truth that is easy to compute."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr
from local_servers import Handler, status

LAT, LON = np.arange(42.0, 35.5, -0.5), np.arange(99.0, 107.5, 0.5)  # of the files
RAIN_M = {"paramId": 228}  # tp in m: IFS
RAIN_KG = {"paramId": 228228}  # tp in kg m-2: AIFS, and APCP of GFS and GEFS
GFS = {"centre": "kwbc", "setLocalDefinition": 0}
ECMWF = {"centre": "ecmf", "setLocalDefinition": 1}


def message(values: np.ndarray, run: str, hours: tuple[int, int], lat=LAT, lon=LON, **keys) -> bytes:
    """One GRIB 2 message; hours that differ make it an amount between them. NaN is missing."""
    import eccodes

    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    amount = hours[0] != hours[1]
    day, _, clock = run.partition("T")
    steps = {"stepType": "accum", "stepRange": f"{hours[0]}-{hours[1]}"} if amount else {"stepRange": f"{hours[1]}"}
    grid = {
        "Ni": len(lon),
        "Nj": len(lat),
        "latitudeOfFirstGridPointInDegrees": float(lat[0]),
        "latitudeOfLastGridPointInDegrees": float(lat[-1]),
        "longitudeOfFirstGridPointInDegrees": float(lon[0]),
        "longitudeOfLastGridPointInDegrees": float(lon[-1]),
        "iDirectionIncrementInDegrees": float(abs(lon[1] - lon[0])),
        "jDirectionIncrementInDegrees": float(abs(lat[1] - lat[0])),
        "jScansPositively": int(lat[0] < lat[-1]),
    }
    when = {"dataDate": int(day.replace("-", "")), "dataTime": int(clock or 0) * 100}
    packing = {"bitsPerValue": 24, "bitmapPresent": 1, "missingValue": 9999}
    for key, value in {**ECMWF, **keys, **steps, **grid, **when, **packing}.items():
        eccodes.codes_set(handle, key, value)
    eccodes.codes_set_values(handle, np.where(np.isnan(values), 9999.0, values).astype(np.float64).ravel())
    content = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return content


def soil(values: np.ndarray, run: str, hour: int, level: int = 1, **keys) -> bytes:
    """ECMWF's volumetric soil moisture of a layer."""
    layer = {"paramId": 260199, "typeOfLevel": "soilLayer", "topLevel": level - 1, "bottomLevel": level}
    return message(values, run, (hour, hour), **layer, **keys)


def soil_of_gfs(values: np.ndarray, run: str, hour: int, depth_cm: tuple[int, int] = (0, 10)) -> bytes:
    """SOILW of a layer between two depths."""
    depths = {}
    for end, depth in zip(("First", "Second"), depth_cm, strict=True):
        depths |= {f"typeOf{end}FixedSurface": 106, f"scaleFactorOf{end}FixedSurface": 2}
        depths[f"scaledValueOf{end}FixedSurface"] = depth
    soilw = {"discipline": 2, "parameterCategory": 0, "parameterNumber": 192}
    return message(values, run, (hour, hour), **GFS, **soilw, **depths)


def rain_of_day(run: np.datetime64 | str, day: int, lat=LAT, lon=LON) -> np.ndarray:
    """The total of a run's day, mm: other for each run, day and cell."""
    number = float((np.datetime64(run, "D") - np.datetime64("2026-11-01")).astype(int))
    return 3 + number + 10 * day + 0.1 * (lat[:, None] - 30) + 0.01 * (lon - 90)


def moisture_at(run: np.datetime64 | str, hour: int, lat=LAT, lon=LON) -> np.ndarray:
    """Soil moisture at an hour of a run, m3 m-3; the first column of the files is sea, where it is 0."""
    number = float((np.datetime64(run, "D") - np.datetime64("2026-11-01")).astype(int))
    values = 0.1 + 0.002 * number + 0.001 * hour / 24 + 0.001 * (lat[:, None] - 35) + 0 * lon
    return np.where(lon == LON[0], 0.0, values)


def since_start(run: np.datetime64 | str, days: int) -> np.ndarray:
    """Rain from the start of a run to the end of its day, m."""
    return sum((rain_of_day(run, day) for day in range(1, days + 1)), np.zeros((len(LAT), len(LON)))) / 1000


def fields_of(run: str, hour: int, moisture: bool = True) -> list[tuple[dict, bytes]]:
    """A file of ECMWF's open data, field by field with what the index says: some that nobody asked for among them."""
    found = [({"param": "2t", "levtype": "sfc"}, message(np.full((13, 17), 280.0), run, (hour, hour), paramId=167))]
    if hour:
        tp = message(since_start(run, hour // 24), run, (0, hour), **RAIN_M)
        found.append(({"param": "tp", "levtype": "sfc"}, tp))
    for level in (2, 1) if moisture else ():
        values = moisture_at(run, hour) + (0.2 if level == 2 else 0)
        found.append(({"param": "vsw", "levtype": "sol", "levelist": str(level)}, soil(values, run, hour, level)))
    return found


class OpenData:
    """The address scheme, index files and byte ranges of ECMWF's open data, for the runs of these days."""

    def __init__(self, has: Callable[[date], bool], moisture: bool = True, lead_days: int = 15):
        self.has, self.moisture, self.lead_days = has, moisture, lead_days
        self.made: dict[str, list[tuple[dict, bytes]]] = {}
        self.ranges = True  # whether the server knows them

    def __call__(self, handler: Handler) -> None:
        parts = handler.path.strip("/").split("/")  # 20261101/00z/ifs/0p25/oper/20261101000000-24h-oper-fc.grib2
        day, hour = date.fromisoformat(parts[0]), int(parts[-1].split("-")[1].removesuffix("h"))
        if not self.has(day) or hour > 24 * self.lead_days or parts[1] != "00z" or parts[3:5] != ["0p25", "oper"]:
            return status(404, "Not Found")(handler)
        fields = self.made.setdefault(handler.path.rpartition(".")[0], fields_of(str(day), hour, self.moisture))
        if handler.path.endswith(".index"):
            return handler.reply(self._index(fields, hour))
        content = b"".join(part for _, part in fields)
        wanted = handler.headers.get("Range")
        if not wanted or not self.ranges:
            return handler.reply(content)
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        handler.reply(content[first : last + 1], 206, Content_Range=f"bytes {first}-{last}/{len(content)}")

    def _index(self, fields: list[tuple[dict, bytes]], hour: int) -> bytes:
        lines, offset = [], 0
        for about, part in fields:
            line = {"domain": "g", "type": "fc", "stream": "oper", "step": str(hour), **about}
            lines.append(json.dumps(line | {"_offset": offset, "_length": len(part)}))
            offset += len(part)
        return "\n".join([*lines, ""]).encode()


def write_run(folder: Path, run: str, days: int, **how) -> None:
    """The files of a run as the download leaves them."""
    folder.mkdir(exist_ok=True)
    for hour in range(0, 24 * days + 1, 24):
        kept = [part for about, part in fields_of(run, hour, **how) if about["param"] != "2t"]
        if kept:
            (folder / f"ifs_{run}_00z_{hour:03d}h.grib2").write_bytes(b"".join(kept))


def as_netcdf(path: Path, runs: list[str], days: int) -> Path:
    """The rain of some runs as cfgrib writes it: time, step, latitude, longitude; m, summed up since the start."""
    steps = np.arange(1, days + 1) * np.timedelta64(24, "h")
    values = np.stack([np.stack([since_start(run, day) for day in range(1, days + 1)]) for run in runs])
    dims = ("time", "step", "latitude", "longitude")
    coords = {"time": np.array(runs, "datetime64[ns]"), "step": steps.astype("timedelta64[ns]")}
    about = {"units": "m", "GRIB_centre": "ecmf"}
    xr.Dataset({"tp": (dims, values, about)}, {**coords, "latitude": LAT, "longitude": LON}).to_netcdf(path)
    return path
