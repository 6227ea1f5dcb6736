"""Granules in the schema of SPL4SMGP, whole (1624 × 3856) or cut, holding fields that are known everywhere."""

from pathlib import Path

import h5py
import numpy as np
from pyproj import Transformer

CELL = 36032.220840584 / 4
X = -17367530.4451615 + CELL * (np.arange(3856) + 0.5)
Y = 7314540.8306386 - CELL * (np.arange(1624) + 0.5)
LON, LAT = (
    Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True).transform(X, np.zeros_like(X))[0],
    (Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True).transform(np.zeros_like(Y), Y)[1]),
)
PATHS = {
    "soil_moisture": ("Geophysical_Data/sm_surface", "m3 m-3"),
    "soil_temperature": ("Geophysical_Data/soil_temp_layer1", "K"),
    "precipitation": ("Geophysical_Data/precipitation_total_surface_flux", "kg m-2 s-1"),
}


def known(name: str, hour: float, sine_lat, lon):
    """Linear in sin(latitude) and in longitude, so that its mean over any cell is its value in the cell's middle."""
    return {
        "soil_moisture": 0.2 + 0.1 * sine_lat + 0.0005 * lon + 0.001 * hour,
        "soil_temperature": 270 + 30 * sine_lat + 0.02 * lon + 0.1 * hour,
        "precipitation": (1 + sine_lat + 0.001 * lon) * 1e-5 * (1 + hour / 24),
    }[name]


def is_sea(lat, lon):
    return (lon > 125) & (lat < 30)


def name_of(time: np.datetime64, version="Vv7032_001") -> str:
    stamp = str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")
    return f"SMAP_L4_SM_gph_{stamp}_{version}.h5"


def granule(
    folder: Path, time: str, rows=slice(0, 1624), columns=slice(0, 3856), version="Vv7032_001", change=None,
    chunks=(406, 482), with_xy=True, level=1,
) -> Path:  # fmt: skip
    """Write one granule; `change(name, values)` may alter a field on its way."""
    stamp = np.datetime64(time, "m")
    hour = (stamp - stamp.astype("datetime64[D]")) / np.timedelta64(1, "h")
    lat, lon = LAT[rows], LON[columns]
    path = folder / name_of(stamp, version)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(lat), len(lon))
    stored = {"chunks": tuple(min(c, s) for c, s in zip(chunks, shape, strict=True)), "compression": "gzip"}
    stored |= {"compression_opts": level, "shuffle": True}
    with h5py.File(path, "w") as file:
        for name, (where, units) in PATHS.items():
            values = known(name, hour, np.sin(np.deg2rad(lat))[:, None], lon[None]).astype(np.float32)
            values[is_sea(lat[:, None], lon[None])] = -9999
            if change is not None:
                values = change(name, values)
            field = file.create_dataset(where, data=values, fillvalue=np.float32(-9999), **stored)
            field.attrs["_FillValue"] = np.float32(-9999)
            field.attrs["units"] = np.bytes_(units)
        if with_xy:
            file["x"], file["y"] = X[columns], Y[rows]
        file.create_dataset("cell_lat", data=np.broadcast_to(lat[:, None], shape).astype(np.float32), **stored)
        file.create_dataset("cell_lon", data=np.broadcast_to(lon[None], shape).astype(np.float32), **stored)
        file["EASE2_global_projection"] = np.bytes_(b"")
    return path


def day(date: str) -> list[str]:
    """The times of a day's eight granules."""
    return [f"{date}T{h:02d}:30" for h in range(1, 24, 3)]
