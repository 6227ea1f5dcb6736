"""The public SMAP benchmark over the United States: its download, its reader, and the two data sets made of it.

The miniature has the published layout, six cells and 60 days of synthetic values; the fifth cell has no soil texture.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from local_servers import dropped, serving, status, truncated

from utils.common.cli import UserError
from utils.common.files import ROOT
from utils.dataset.prepared import open_prepared
from utils.products.download import Patience
from utils.products.land_model import Forcing
from utils.products.smap_conus import download, simulation
from utils.products.smap_conus.download import CONUSDownloadSettings, download_conus, published_files
from utils.products.smap_conus.prepare import CONUSPrepareSettings, prepare_conus

MINIATURE = Path(__file__).with_name("conus_miniature")
SHARED = ROOT.parent / "shared" / "realdata"
QUICK = Patience(tries=3, first=0.01, longest=0.02)


@pytest.fixture
def files(monkeypatch) -> dict[str, bytes]:
    """The miniature's files, which stand for the published ones."""
    content = {str(path.relative_to(MINIATURE)): path.read_bytes() for path in MINIATURE.rglob("*.csv")}
    digests = {name: download.hashlib.sha256(values).hexdigest() for name, values in content.items()}
    monkeypatch.setattr(download, "published_files", lambda: digests)
    return content


@pytest.fixture
def server(files):
    def routes(handler):
        content = files.get(handler.path.lstrip("/"))
        handler.reply(content) if content is not None else status(404, "Not Found")(handler)

    with serving(routes) as server:
        yield server


def test_the_published_folder_has_42_files_and_a_hash_of_each():
    files = published_files()
    assert len(files) == 42 and {len(digest) for digest in files.values()} == {64}
    assert sorted(name for name in files if name.startswith("2016"))[3] == "2016/SMAP_AM.csv"
    assert "2017/SMAP_AM.csv" not in files


def test_fetches_every_file_once_and_says_how_large_they_are(server, files, tmp_path, capsys):
    settings = CONUSDownloadSettings(out=tmp_path / "raw")
    server.faults["/2015/APCP"] = [dropped, truncated(files["2015/APCP_FORA.csv"])]
    download_conus(settings, QUICK, server.url)
    assert {name: (settings.out / name).read_bytes() for name in files} == files
    assert f"{len(files)} files, 35 MB in all" in capsys.readouterr().out
    (settings.out / "crd.csv").write_text("altered on the disk")
    server.asked.clear()
    download_conus(settings, QUICK, server.url)
    assert dict(server.asked) == {"GET /crd.csv": 1}


def test_an_interrupted_download_goes_on_where_it_stopped(server, files, tmp_path):
    settings = CONUSDownloadSettings(out=tmp_path / "raw")
    server.faults["/2017"] = [status(404, "Not Found")]
    with pytest.raises(UserError, match=r"^2017/\S+ failed: .*404.*goes on from here.*--raw\.$"):
        download_conus(settings, QUICK, server.url)
    there = sum(path.is_file() for path in settings.out.rglob("*.csv"))
    server.asked.clear()
    download_conus(settings, QUICK, server.url)
    assert 0 < there == len(files) - server.asked.total()


def test_an_altered_file_is_refused_and_not_kept(server, files, tmp_path):
    server.faults["/const/NDVI"] = [lambda handler: handler.reply(files["const/NDVI.csv"].replace(b"0.", b"1."))]
    with pytest.raises(UserError, match=r"const/NDVI.csv .* not the published ones \(SHA-256\)"):
        download_conus(CONUSDownloadSettings(out=tmp_path / "raw"), QUICK, server.url)
    assert not (tmp_path / "raw/const/NDVI.csv").exists()


def test_without_a_network_one_sentence_says_where_to_get_the_files_by_hand(files, tmp_path):
    with pytest.raises(UserError, match=f"after 3 tries.*{download.BY_HAND} and give it with --raw") as error:
        download_conus(CONUSDownloadSettings(out=tmp_path / "raw"), QUICK, "http://127.0.0.1:9")
    assert "\n" not in str(error.value)


def test_a_copy_is_checked_and_an_absent_year_is_named(files, tmp_path, capsys):
    copy = tmp_path / "CONUSv4f1"
    shutil.copytree(MINIATURE, copy)
    shutil.rmtree(copy / "2017")
    download_conus(CONUSDownloadSettings(out=tmp_path / "raw", raw=tmp_path))
    assert "The year from April 2017 is not complete" in capsys.readouterr().out
    assert (tmp_path / "raw/2015/SMAP_AM.csv").exists()
    (copy / "const/Sand.csv").unlink()
    with pytest.raises(UserError, match=r"lacks const/Sand.csv"):
        download_conus(CONUSDownloadSettings(out=tmp_path / "other", raw=copy))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[xr.Dataset, xr.Dataset, Path]:
    """SMAP and the source, of the miniature."""
    return prepare(MINIATURE, tmp_path_factory.mktemp("conus"))


def prepare(raw: Path, folder: Path) -> tuple[xr.Dataset, xr.Dataset, Path]:
    settings = CONUSPrepareSettings(raw=raw, out=folder / "smap.nc", source_out=folder / "source.nc")
    prepare_conus(settings)
    for path in (settings.out, settings.source_out):
        open_prepared(path).close()  # the contract's own checks
    return xr.load_dataset(settings.out), xr.load_dataset(settings.source_out), folder


def test_every_value_stands_in_its_cell_and_day(prepared):
    smap, source, _ = prepared
    published = np.loadtxt(MINIATURE / "2015/SMAP_AM.csv", delimiter=",")
    rain = np.loadtxt(MINIATURE / "2017/APCP_FORA.csv", delimiter=",")
    for cell, (lat, lon) in enumerate(np.loadtxt(MINIATURE / "crd.csv", delimiter=",")):
        here = {"lat": lat, "lon": lon, "method": "nearest"}
        expected = np.where(published[cell] == -9999, np.nan, published[cell])
        np.testing.assert_allclose(smap["soil_moisture"].sel(**here), expected, rtol=1e-6)
        np.testing.assert_allclose(source["precipitation"].sel(**here)[60:], 24 * rain[cell], rtol=1e-6)
    u, v = (np.loadtxt(MINIATURE / f"2015/{name}GRD_10_FORA.csv", delimiter=",")[5, 7] for name in "UV")
    assert smap["wind_speed"].values[7, 2, 1] == pytest.approx((u**2 + v**2) ** 0.5, rel=1e-6)
    assert (np.diff(smap["lat"]) < 0).all()


def test_absent_years_are_gaps_in_time_and_smap_has_only_its_own(prepared):
    smap, source, folder = prepared
    assert smap.sizes["time"] == 60 and source.sizes["time"] == 120
    assert "left out: 2016-04-01 to 2017-03-31 (not in the folder)" in (folder / "source_report.txt").read_text()


def test_both_files_say_what_they_are(prepared):
    smap, source, folder = prepared
    assert smap.attrs["title"].startswith("REAL SMAP L3") and "SIMULATED" in source.attrs["title"]
    assert "ESTIMATE" in smap["soil_temperature"].attrs["long_name"]
    assert smap["sand"].attrs["units"] == "percent" and np.isnan(smap["sand"].values[2, 0])  # as published
    assert "correlation:" in (folder / "source_report.txt").read_text()


def test_no_smap_value_touches_the_source(prepared, tmp_path):
    shutil.copytree(MINIATURE, tmp_path / "raw")
    (tmp_path / "raw/2015/SMAP_AM.csv").write_text("\n".join([",".join(["0.3"] * 60)] * 6))
    smap, source, _ = prepare(tmp_path / "raw", tmp_path)
    xr.testing.assert_equal(source, prepared[1])
    xr.testing.assert_equal(smap["soil_temperature"], prepared[0]["soil_temperature"])


def test_potential_evaporation_by_hand():
    """A bright June day: 25 °C, 300 W m-2 from the sun, 370 from the sky."""
    net = 0.8 * 300 + 0.97 * (370 - 5.67e-8 * 298.15**4)
    slope = 0.1888  # kPa K-1 at 25 °C (FAO-56, table 2.4)
    expected = 1.26 * slope / (slope + 0.066) * net * 86400 / 2.45e6
    got = simulation.potential_evaporation(*(np.array([[value]]) for value in (298.15, 300.0, 370.0)))
    assert got.item() == pytest.approx(expected, rel=2e-3)


def test_the_spin_up_forgets_where_it_started(monkeypatch):
    rng = np.random.default_rng(1)
    rain = np.where(rng.random((400, 3)) < 0.3, rng.gamma(0.7, 8, (400, 3)), 0)
    forcing = Forcing(rain, np.full((400, 3), 288.0), np.full((400, 3), 3.0))
    soil = simulation.soil_of(np.full(3, 45.0), np.full(3, 20.0), np.array([0.0, 0.3, 0.6]))
    moisture, _ = simulation.simulate(forcing, soil)
    monkeypatch.setattr(simulation, "SPIN_UP_YEARS", 7)
    longer, _ = simulation.simulate(forcing, soil)
    np.testing.assert_allclose(moisture, longer, atol=1e-3)
    monkeypatch.setattr(simulation, "SPIN_UP_YEARS", 0)
    assert abs(simulation.simulate(forcing, soil)[0] - longer).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("2015/TMP_2_FORA.csv", "280,281", "has 1 cells and 2 days, expected 6 cells and 60 days"),
        ("2015/TMP_2_FORA.csv", "warm", "cannot be read as rows of numbers"),
        ("2015/timeStr.csv", "2015-04-01\n2015-04-03", "does not hold consecutive days"),
        ("2015/timeStr.csv", "April", "cannot be read as dates"),
        ("const/Clay.csv", "1\n2", "has 2 cells, expected 6"),
    ],
)
def test_a_folder_that_is_not_the_published_one_is_refused_in_a_sentence(tmp_path, name, text, match):
    shutil.copytree(MINIATURE, tmp_path / "raw")
    (tmp_path / "raw" / name).write_text(text)
    with pytest.raises(UserError, match=match):
        prepare(tmp_path / "raw", tmp_path)


def test_a_folder_without_a_year_or_without_cells_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not hold crd"):
        prepare(tmp_path, tmp_path)
    shutil.copytree(MINIATURE, tmp_path / "raw")
    for year in ("2015", "2017"):
        shutil.rmtree(tmp_path / "raw" / year)
    with pytest.raises(UserError, match="has no complete year"):
        prepare(tmp_path / "raw", tmp_path)


@pytest.mark.skipif(not (SHARED / "geolearn").exists(), reason="the published files are not here")
def test_the_published_files_give_the_known_cells_gaps_rain_and_moisture(tmp_path, capsys):
    raw = tmp_path / "raw"
    download_conus(CONUSDownloadSettings(out=raw, raw=SHARED / "geolearn"))
    smap, _, _ = prepare(raw, tmp_path)
    first_year = smap.sel(time=slice("2015-04-01", "2016-03-31"))
    filled = first_year["precipitation"].notnull().any("time")
    assert int(filled.sum()) == 412 and smap["lat"].size == 18 and smap["lon"].size == 38
    missing = first_year["soil_moisture"].isnull().where(filled).mean()
    assert float(missing) == pytest.approx(0.579, abs=0.001)
    with xr.open_dataset(SHARED / "conus" / "smap_l3_conus.nc") as reference:
        for name in ("precipitation", "soil_moisture"):
            np.testing.assert_allclose(first_year[name].mean("time"), reference[name].mean("time"), atol=1e-5)
