"""Downloads through the real clients against local servers: requests, queue, resume, verification, and failures."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from era5_shapes import fields, new_cds, truth, zipped
from local_servers import ClimateDataStore, Cmr, Harmony, dropped, serving, status, truncated
from smap_granules import day, granule

from utils.common.cli import UserError
from utils.products.download import CredentialsRefused, Patience, safe
from utils.products.era5.download import ERA5DownloadSettings, download_era5, pieces
from utils.products.smap.download import SMAPDownloadSettings, download_smap

KEY, PASSWORD, TOKEN = "0123-very-secret-key", "very-secret-word", "very.secret.token"
QUICK = Patience(tries=4, first=0.02, longest=0.1, poll=0.02)


def era5(out: Path, **more) -> ERA5DownloadSettings:
    """Three days over a small box, of which half a cell more is asked for on every side."""
    days = {"start": date(2015, 3, 30), "end": date(2015, 4, 1)}
    return ERA5DownloadSettings(**days, out=out, south=30, north=33, west=110, east=113, **{"queue": 2, **more})


def smap(out: Path, end: date = date(2015, 4, 1), **more) -> SMAPDownloadSettings:
    box = {"south": 25, "north": 35, "west": 95, "east": 115}
    return SMAPDownloadSettings(start=date(2015, 3, 31), end=end, out=out, **box, **more)


def netcdf_of(folder: Path, request: dict, drop: int = 0) -> bytes:
    """What the Climate Data Store gives: the asked hours, in a ZIP of an instant and an accumulated member."""
    hours = np.array(
        [
            f"{request['year'][0]}-{request['month'][0]}-{d}T{t}"
            for d in request["day"]
            for t in request["time"]
        ],
        "datetime64[ns]",
    )  # fmt: skip
    t = truth("2015-03-29", days=6)
    values, kept = fields(t), np.flatnonzero(np.isin(t.time.values, hours))
    kept = kept[: len(kept) - drop]
    folder.mkdir(exist_ok=True)
    soil = new_cds(folder / "soil.nc", t, {k: values[k] for k in ("swvl1", "stl1")}, kept)
    rain = new_cds(folder / "rain.nc", t, {"tp": values["tp"]}, kept)
    return zipped(folder / "both.zip", {"data_0.nc": soil, "data_1.nc": rain}).read_bytes()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A Climate Data Store on loopback, its address and key in a .cdsapirc."""
    routes = ClimateDataStore(lambda request: netcdf_of(tmp_path / "made", request), KEY)
    with serving(routes) as server:
        (tmp_path / "cdsapirc").write_text(f"url: {server.url}/api\nkey: {KEY}\n")
        monkeypatch.setenv("CDSAPI_RC", str(tmp_path / "cdsapirc"))
        for name in ("CDSAPI_URL", "CDSAPI_KEY"):
            monkeypatch.delenv(name, raising=False)
        server.store = routes
        yield server


# --- the Climate Data Store


def test_one_month_a_request_with_the_three_variables_the_box_and_the_closing_hour():
    got = pieces("era5-land", date(2015, 1, 1), date(2015, 3, 15), (2.5, 54.5, 71.5, 136.5))
    assert [p.name[10:17] for p in got] == ["2015-01", "2015-02", "2015-03", "2015-03"]
    assert [len(p.hours) for p in got] == [31 * 24, 28 * 24, 15 * 24, 1]
    assert got[-1].hours[0] == np.datetime64("2015-03-16T00:00")
    request = got[0].request
    assert request["area"] == [54.5, 71.5, 2.5, 136.5]
    assert request["variable"] == ["total_precipitation", "volumetric_soil_water_layer_1", "soil_temperature_level_1"]
    assert "product_type" not in request
    assert pieces("era5", date(2015, 1, 1), date(2015, 1, 1), (0, 1, 0, 1))[0].request["product_type"] == ["reanalysis"]


def test_downloads_what_is_missing_and_skips_what_is_complete(store, tmp_path, capsys, monkeypatch):
    out = tmp_path / "raw"
    download_era5(era5(out), QUICK)
    names = sorted(p.name for p in out.glob("*.zip"))
    assert names == [
        "era5_land_2015-03_30-31.zip", "era5_land_2015-04-02T00.zip", "era5_land_2015-04_01-01.zip",
    ]  # fmt: skip
    assert "3 of 3 requests to make, about" in capsys.readouterr().out
    jobs = len(store.store.jobs)
    download_era5(era5(out), QUICK)
    assert "0 of 3 requests to make" in capsys.readouterr().out and len(store.store.jobs) == jobs
    (out / names[0]).write_bytes(b"cut")
    download_era5(era5(out), QUICK)
    assert len(store.store.jobs) == jobs + 1

    from test_prepare_era5 import BOX, in_process

    in_process(monkeypatch, "--raw", out, "--out", tmp_path / "era5.nc", "--resolution", "native", *BOX)
    assert "period: 2015-03-30 to 2015-04-01, 3 days" in capsys.readouterr().out


def test_passing_failures_are_tried_again(store, tmp_path):
    store.faults["/api/retrieve/v1/processes"] = [status(429, "too many", Retry_After="0"), dropped]
    store.faults["/api/retrieve/v1/jobs"] = [status(503, "busy"), status(500, "oops")]
    store.faults["/files"] = [truncated(bytes(100_000)), dropped]
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(list((tmp_path / "raw").glob("*.zip"))) == 3


def test_retry_after_is_honoured(store, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    store.faults["/api/retrieve/v1/processes"] = [status(429, "too many", Retry_After="37")]
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert 37.0 in waits


def test_refused_credentials_are_one_sentence_without_the_key(store, tmp_path, capfd):
    store.store.key = "another"
    with pytest.raises(CredentialsRefused, match="refused the credentials") as error:
        download_era5(era5(tmp_path / "raw"), QUICK)
    said = str(error.value) + "".join(capfd.readouterr())
    assert KEY not in said and "401" in said


def test_missing_credentials_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("CDSAPI_RC", str(tmp_path / "none"))
    monkeypatch.delenv("CDSAPI_URL", raising=False)
    monkeypatch.delenv("CDSAPI_KEY", raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *_: pytest.fail("a server was asked"))
    with pytest.raises(UserError, match="credentials are not set up"):
        download_era5(era5(tmp_path / "raw"), QUICK)


def test_a_job_that_fails_on_the_server_is_named_and_the_rest_arrive(store, tmp_path):
    make = store.store.answer

    def april_fails(request):
        if request["month"] == ["04"] and len(request["time"]) == 24:
            raise RuntimeError("MARS says no")
        return make(request)

    store.store.answer = april_fails
    with pytest.raises(UserError, match=r"1 of 3 requests failed: era5_land_2015-04_01-01.*MARS says no"):
        download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(list((tmp_path / "raw").glob("*.zip"))) == 2
    store.store.answer = make
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(list((tmp_path / "raw").glob("*.zip"))) == 3


def test_a_file_without_all_its_hours_is_not_accepted(store, tmp_path):
    store.store.answer = lambda request: netcdf_of(tmp_path / "made", request, drop=len(request["time"]) // 24 * 2)
    with pytest.raises(UserError, match="arrived without 2 of 48 hours of tp"):
        download_era5(era5(tmp_path / "raw"), QUICK)
    assert not list((tmp_path / "raw").glob("era5_land_2015-03_*"))


def test_an_interrupted_run_finds_its_job_in_the_queue(store, tmp_path, monkeypatch):
    from utils.products.era5 import download

    def stop(*_):
        raise KeyboardInterrupt

    settings = era5(tmp_path / "raw", queue=3)
    with monkeypatch.context() as patched:
        patched.setattr(download._Queue, "_fetch", stop)
        with pytest.raises(KeyboardInterrupt):
            download_era5(settings, QUICK)
    download_era5(settings, QUICK)
    assert store.asked["POST /api/retrieve/v1/processes/reanalysis-era5-land/execution"] == 3


# --- NASA


def cut_granules(folder: Path, request: str) -> dict[str, bytes]:
    assert "sm_surface" in request and "subset" in request
    names = [granule(folder, s, rows=slice(320, 480), columns=slice(2920, 3180)) for s in day("2015-03-31")]
    month = "2015-03-31" if "2015-03-31" in request else "2015-04-01"
    return {f"{p.name[:-3].replace('20150331', month.replace('-', ''))}_subsetted.h5": p.read_bytes() for p in names}


@pytest.fixture
def harmony(tmp_path, monkeypatch):
    """Harmony on loopback, the account in a .netrc."""
    routes = Harmony(lambda request: cut_granules(tmp_path / "made", request), PASSWORD)
    with serving(routes) as server:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine localhost login name password {PASSWORD}\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("LOCALHOST_PORT", str(server.server_port))
        monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)  # harmony-py's own back-off
        server.harmony = routes
        yield server


def local():
    from harmony import Environment

    return Environment.LOCAL


def test_harmony_cuts_every_month_and_what_arrived_is_skipped(harmony, tmp_path, capsys, monkeypatch):
    out = tmp_path / "raw"
    download_smap(smap(out), QUICK, local())
    assert len(list(out.glob("*_SMAP_L4_SM_gph_*"))) + len(list(out.glob("SMAP_L4_SM_gph_*"))) == 16
    said = capsys.readouterr().out
    assert "2 of 2 months to fetch, about 16 granules cut on the server" in said and PASSWORD not in said
    jobs = len(harmony.harmony.jobs)
    download_smap(smap(out), QUICK, local())
    assert len(harmony.harmony.jobs) == jobs

    from test_prepare_era5 import in_process

    box = ["--south", "25", "--north", "35", "--west", "95", "--east", "115"]
    in_process(monkeypatch, "--raw", out, "--out", tmp_path / "s.nc", *box, script="prepare_smap_l4.py")
    assert "period: 2015-03-31 to 2015-04-01, 2 days" in capsys.readouterr().out


def test_harmony_failures_pass_or_are_named(harmony, tmp_path, capfd):
    harmony.faults["/SPL4SMGP"] = [status(429, "slow down", Retry_After="0"), status(503, "busy")]
    harmony.faults["/files"] = [truncated(bytes(100_000)), dropped]
    download_smap(smap(tmp_path / "raw", end=date(2015, 3, 31)), QUICK, local())
    assert len(list((tmp_path / "raw").glob("*.h5"))) == 8
    harmony.harmony.fails = True
    with pytest.raises(UserError, match=r"the server's job failed.*the service crashed"):
        download_smap(smap(tmp_path / "failing", end=date(2015, 3, 31)), QUICK, local())
    harmony.harmony.password = "changed"
    with pytest.raises(CredentialsRefused, match="refused the credentials") as error:
        download_smap(smap(tmp_path / "refused"), QUICK, local())
    assert PASSWORD not in str(error.value) + "".join(capfd.readouterr())


def test_whole_granules_through_earthaccess(tmp_path, monkeypatch, capsys):
    import earthaccess
    from earthaccess.store import Store
    from earthaccess.system import System

    made = [granule(tmp_path / "made", s, rows=slice(320, 340), columns=slice(2920, 2940)) for s in day("2015-03-31")]
    # what earthaccess asks of fixed hosts beyond the one it is told: Amazon's own address, and a login page by TLS
    monkeypatch.setattr(Store, "_running_in_us_west_2", lambda _: False)
    monkeypatch.setattr(Store, "set_requests_session", lambda s, *_: setattr(s, "_http_session", s.auth.get_session()))
    monkeypatch.setattr(Store._download_file.retry, "sleep", lambda _: None)
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    with serving(Cmr({p.name: p for p in made}, TOKEN)) as server:
        system = System(f"{server.url}/search/", "", "", f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(earthaccess.__auth__, "authenticated", False)
        server.faults["/data"] = [truncated(bytes(100_000)), status(503, "busy")]
        settings = smap(tmp_path / "raw", end=date(2015, 3, 31), whole_granules=True)
        download_smap(settings, QUICK, system)
        said = capsys.readouterr().out
        assert "about 8 whole granules, 1.09 GB" in said and TOKEN not in said
        assert len(list((tmp_path / "raw").glob("*.h5"))) == 8


def test_no_earthdata_account_and_an_unwritable_folder_are_sentences(tmp_path, monkeypatch):
    import earthaccess

    def asks_at_the_terminal(**_):
        raise EOFError

    monkeypatch.setattr(earthaccess, "login", asks_at_the_terminal)
    with pytest.raises(UserError, match="Earthdata credentials are not set up"):
        download_smap(smap(tmp_path / "raw", whole_granules=True), QUICK)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        download_smap(smap(tmp_path / "file" / "raw", whole_granules=True), QUICK)


def test_credentials_are_cut_out_of_errors():
    texts = (
        f"https://name:{PASSWORD}@host/x failed",
        f"GET /x?token={TOKEN}&b=1",
        f"Authorization: Bearer {TOKEN}",
        f'{{"key": "{KEY}"}}',
        f"PRIVATE-TOKEN: {KEY}",
    )
    for text in texts:
        for secret in (PASSWORD, TOKEN, KEY):
            assert secret not in safe(text), text
