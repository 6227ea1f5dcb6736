"""GeoTIFF files as Google Earth Engine exports them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin


def geotiff(
    path: Path, bands: Sequence[np.ndarray], names: Sequence[str | None], lat: np.ndarray, lon: np.ndarray,
    crs="EPSG:4326", nodata=None,
) -> Path:  # fmt: skip
    """Bands [lat, lon] with their descriptions; `lat` descends, both evenly spaced cell centres (metres: y and x)."""
    step = [abs(float(axis[1] - axis[0])) if len(axis) > 1 else 0.1 for axis in (lon, lat)]
    transform = from_origin(lon[0] - step[0] / 2, lat[0] + step[1] / 2, *step)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "float32", "count": len(bands), "height": len(lat), "width": len(lon)}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, compress="deflate", **profile) as file:
        for number, (values, name) in enumerate(zip(bands, names, strict=True), start=1):
            file.write(values.astype(np.float32), number)
            if name is not None:
                file.set_band_description(number, name)
    return path
