"""A forecast for GIS programs: the names of its bands, and its maps as cloud-optimised GeoTIFF files."""

import glob
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from rasterio.io import MemoryFile

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.georeference import PixelGrid, pixel_grid
from utils.common.grid import Grid
from utils.common.text import format_days

QUANTILES = (0.05, 0.5, 0.95)  # the median and the ends of the 90 % interval
CHANCES = ("probability_below_p10", "probability_above_p90")


def find_pixels(grid: Grid, data: Path) -> PixelGrid:
    """The cells as pixels. Raises UserError where they are not evenly spaced."""
    pixels = pixel_grid(grid.lat, grid.lon)
    if pixels is None:
        raise UserError(
            f"{data} has cells that are evenly spaced neither in degrees nor in EASE-Grid 2.0, which --geotiff needs; "
            "forecast without it."
        )
    return pixels


def name_bands(ds: xr.Dataset, out: Path) -> None:
    """Write the file beside `out` in which GDAL looks for the names of bands: the day of each lead time.

    `ds` is a forecast from one day, [lead_time, lat, lon] or [lead_time, quantile, lat, lon]. QGIS names the bands of a
    NetCDF file itself, by the lead time and its unit: this unit tells from which day it counts.
    """
    root, unit = ElementTree.Element("PAMDataset"), f"days from {_date(ds['init_time'].values)}"
    for name, variable in ds.data_vars.items():
        if "lead_time" not in variable.dims:
            continue
        part = ElementTree.SubElement(root, "Subdataset", name=str(name))
        bands = ElementTree.SubElement(part, "PAMDataset")
        ElementTree.SubElement(ElementTree.SubElement(bands, "Metadata"), "MDI", key="lead_time#units").text = unit
        for number, (day, quantile) in enumerate(_bands(variable), start=1):
            band = ElementTree.SubElement(bands, "PAMRasterBand", band=str(number))
            ElementTree.SubElement(band, "Description").text = f"{day}, {quantile}" if quantile else day
    ElementTree.indent(root)
    with whole_file(band_names(out)) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8")


def _bands(variable: xr.DataArray) -> list[tuple[str, str]]:
    """The day and the quantile of each map of a variable, in the order of GDAL's bands."""
    days = [_date(day) for day in variable["valid_time"].values]
    if "quantile" not in variable.dims:
        return [(day, "") for day in days]
    return [(day, f"quantile {level:.2f}") for day in days for level in variable["quantile"].values]


def band_names(out: Path) -> Path:
    """The path of the file with the names of the bands of `out`."""
    return out.with_name(f"{out.name}.aux.xml")


def remove_gis_files(out: Path) -> None:
    """Remove what an earlier forecast of this name left for GIS programs, and what those keep beside it."""
    layers = "|".join(map(re.escape, _layer_names()))
    ours = re.compile(rf"{re.escape(out.stem)}_lead\d+_({layers})\.tif(\.aux\.xml)?")
    for path in out.parent.glob(f"{glob.escape(out.stem)}_lead*"):
        if ours.fullmatch(path.name):
            path.unlink()
    band_names(out).unlink(missing_ok=True)


def write_geotiffs(ds: xr.Dataset, out: Path, pixels: PixelGrid) -> list[Path]:
    """Write a file for each lead time and layer of a forecast from one day; returns their paths.

    A layer without any value is left out: the chances have none where the runs learned from too few years.
    """
    paths = []
    for position in range(ds.sizes["lead_time"]):
        lead = ds.isel(lead_time=position)
        for name, layer in _layers(lead).items():
            if np.isfinite(layer.values).any():
                path = out.with_name(f"{out.stem}_lead{int(lead['lead_time'])}_{name}.tif")
                _write_geotiff(layer, name, ds.attrs, path, pixels)
                paths.append(path)
    return paths


def _layer_names() -> list[str]:
    return ["soil_moisture", *(f"soil_moisture_q{100 * level:02.0f}" for level in QUANTILES), *CHANCES]


def _layers(lead: xr.Dataset) -> dict[str, xr.DataArray]:
    """The maps of a lead time that become files, [lat, lon], by layer name."""
    quantiles = [lead["soil_moisture_quantile"].sel(quantile=level, method="nearest") for level in QUANTILES]
    maps = [lead["soil_moisture"], *quantiles, *(lead[name] for name in CHANCES)]
    return dict(zip(_layer_names(), maps, strict=True))


def _write_geotiff(
    layer: xr.DataArray, name: str, attributes: dict[str, object], path: Path, pixels: PixelGrid
) -> None:
    """Write a map [lat, lon] as a GeoTIFF of one band."""
    values = pixels.image(layer.transpose("lat", "lon").values.astype(np.float32))
    valid, days = _date(layer["valid_time"].values), int(layer["lead_time"])
    tags = {key: value for key, value in (attributes | layer.attrs).items() if key != "grid_mapping"}
    tags |= {"valid_time": valid, "init_time": _date(layer["init_time"].values), "lead_days": days}
    if "quantile" in layer.coords:
        tags["quantile"] = f"{float(layer['quantile']):.2f}"
    profile = {
        "driver": "COG",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": "float32",
        "nodata": np.nan,
        "crs": rasterio.CRS.from_epsg(pixels.epsg),
        "transform": rasterio.Affine.from_gdal(*pixels.geotransform),
        "compress": "deflate",
        "predictor": "yes",
        "overview_resampling": "average",  # the default, cubic, would go beyond the values of the map
    }
    with MemoryFile() as memory, whole_file(path) as partial:
        with memory.open(**profile) as file:
            file.write(values, 1)
            file.units = (layer.attrs["units"],)
            file.set_band_description(1, f"{valid}, {format_days(days)} ahead: {name}")
            file.update_tags(**{key: str(value) for key, value in tags.items()})
        partial.write_bytes(memory.getbuffer())  # GDAL would not say that the disk is full


def _date(time: np.datetime64) -> str:
    return str(np.datetime64(time, "D"))
