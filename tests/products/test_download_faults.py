"""What servers say when they refuse, wait or have nothing, and what the downloads make of it."""

import json
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from local_servers import status
from test_downloads import KEY, QUICK, era5, harmony, local, smap, store

from utils.common.cli import UserError
from utils.products.download import (
    CredentialsRefused,
    Ledger,
    LicenceMissing,
    NothingThere,
    Patience,
    RequestTooLarge,
    ServerBusy,
    refuse_web_page,
    retry,
)
from utils.products.era5.download import download_era5
from utils.products.era5.pieces import pieces
from utils.products.smap.download import download_smap
from utils.products.smap.services import MonthRequest, WholeGranules

__all__ = ["harmony", "store"]  # fixtures
PAGE = b"<!DOCTYPE html><html><title>Earthdata Login</title></html>"


def http_error(code: int, body: str, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response._content = code, body.encode()
    response.headers.update(headers)
    return requests.HTTPError(f"{code} Client Error", response=response)


def one_day(tmp_path):
    settings = era5(tmp_path / "raw")
    settings.end = settings.start
    return settings


def failing(error: Exception, times: int = 100):
    """A call that fails so often, and how often it was made."""
    made = []

    def call() -> str:
        made.append(1)
        if len(made) <= times:
            raise error
        return "arrived"

    return call, made


# --- what an answer means


@pytest.mark.parametrize(
    ("code", "title", "detail", "kind", "tries"),
    [
        (403, "cost limits exceeded", "Your request is too large, please reduce your selection.", RequestTooLarge, 1),
        (400, "invalid request", "Request too large: too many items", RequestTooLarge, 1),
        (413, "Payload Too Large", "", RequestTooLarge, 1),
        (403, "required licences not accepted", "visit https://cds/licences to accept them", LicenceMissing, 1),
        (403, "EULA acceptance required", "", LicenceMissing, 1),
        (403, "permission denied", "Rate limit exceeded", ServerBusy, 3),
        (403, "Forbidden", "", ServerBusy, 3),
        (400, "Bad request", "Number queued requests for this dataset is temporarily limited", ServerBusy, 3),
        (429, "Too Many Requests", "", ServerBusy, 3),
        (403, "permission denied", "operation not allowed", CredentialsRefused, 1),
        (401, "Authentication failed", "", CredentialsRefused, 1),
        (400, "invalid request", "invalid key name 'swvl9'", UserError, 1),
    ],
)
def test_the_answer_tells_size_licence_waiting_and_refusal_apart(code, title, detail, kind, tries):
    call, made = failing(http_error(code, json.dumps({"title": title, "detail": detail})))
    with pytest.raises(UserError) as error:
        retry(call, "asking", Patience(tries=3, first=0.001, longest=0.001))
    assert type(error.value) is kind and len(made) == tries


def test_a_page_of_a_web_server_is_no_refusal_of_the_account():
    call, made = failing(http_error(403, "<html><h1>403 Forbidden</h1> you lack permission</html>"), times=1)
    assert retry(call, "asking", QUICK) == "arrived" and len(made) == 2


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ('{"detail": "Retry in 37 seconds"}', {}, 37),
        ('{"retry_after": 41}', {}, 41),
        ("too many requests, try again in 2 minutes", {}, 120),
        ("please wait 3h", {}, 3600),
        ("slow down", {"Retry-After": "5"}, 5),
    ],
)
def test_the_wait_is_read_from_the_answer(monkeypatch, body, headers, seconds):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    call, _ = failing(http_error(429, body, **headers), times=1)
    assert retry(call, "asking", QUICK) == "arrived" and waits == [seconds]


def test_an_answer_without_what_is_looked_for_is_tried_again_and_then_said():
    call, _ = failing(KeyError("href"), times=1)
    assert retry(call, "downloading", QUICK) == "arrived"
    call, _ = failing(KeyError("href"))
    with pytest.raises(UserError, match="the server's answer is incomplete, it lacks 'href'"):
        retry(call, "downloading", QUICK)


def test_a_login_page_is_no_data(tmp_path):
    (tmp_path / "a.h5").write_bytes(PAGE)
    with pytest.raises(UserError, match="a web page and no data, perhaps its login page"):
        refuse_web_page(tmp_path / "a.h5", "a.h5")


# --- the Climate Data Store


def test_a_request_that_is_too_large_is_asked_for_in_smaller_ones_each_complete():
    box = (2.5, 54.5, 71.5, 136.5)
    todo, seen = pieces("era5-land", date(2015, 1, 1), date(2015, 1, 31), box)[:1], []
    while todo:
        piece = todo.pop()
        smaller = piece.smaller()
        todo += smaller
        for hours in (np.sort(np.concatenate([p.hours for p in smaller if set(p.variables) >= {v}])) for v in
                      piece.variables) if smaller else ():  # fmt: skip
            np.testing.assert_array_equal(hours, piece.hours)
        seen.append((len(piece.request["day"]), piece.request["data_format"], len(piece.variables)))
        assert len(seen) < 1000
    steps = dict.fromkeys(seen)
    assert list(steps)[:4] == [(31, "netcdf", 3), (16, "netcdf", 3), (16, "grib", 3), (16, "grib", 1)]
    assert (1, "grib", 1) in steps
    names = [piece.name for piece in pieces("era5-land", date(2015, 1, 1), date(2015, 1, 31), box)[0].smaller()]
    assert names == ["era5_land_2015-01_01-15", "era5_land_2015-01_16-31"]


def test_after_cost_limits_the_month_arrives_in_parts_and_is_complete(store, tmp_path, capsys):
    too_large = status(403, "cost limits exceeded")
    store.faults["/api/retrieve/v1/processes/reanalysis-era5-land/execution"] = [too_large, too_large]
    download_era5(era5(tmp_path / "raw", queue=1), QUICK)
    assert "asked for as era5_land_2015-03_30-31_grib_tp, era5_land_2015-03_30-31_grib_swvl1" in capsys.readouterr().out
    entries = Ledger.of(tmp_path / "raw").entries
    assert entries["era5_land_2015-03_30-31"]["parts"] == ["era5_land_2015-03_30-31_grib"]
    assert len(entries["era5_land_2015-03_30-31_grib"]["parts"]) == 3
    assert len(list((tmp_path / "raw").glob("*.zip"))) == 5
    jobs = len(store.store.jobs)
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(store.store.jobs) == jobs
    (tmp_path / "raw" / "era5_land_2015-03_30-31_grib_tp.zip").unlink()
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(store.store.jobs) == jobs + 1  # the lost part alone


def test_a_server_that_takes_no_more_requests_for_now_gets_them_later(store, tmp_path):
    limited = status(400, "Number queued requests for this dataset is temporarily limited")
    store.faults["/api/retrieve/v1/processes/reanalysis-era5-land/execution"] = [limited] * 3
    download_era5(era5(tmp_path / "raw"), QUICK)
    assert len(list((tmp_path / "raw").glob("*.zip"))) == 3


def test_a_missing_licence_ends_the_run_and_says_where(store, tmp_path):
    words = "required licences not accepted; visit https://cds/datasets/x?tab=download#manage-licences"
    store.faults["/api/retrieve/v1/processes"] = [status(403, words)] * 9
    with pytest.raises(LicenceMissing, match=r"accept it there.*manage-licences"):
        download_era5(era5(tmp_path / "raw"), QUICK)
    assert store.asked["POST /api/retrieve/v1/processes/reanalysis-era5-land/execution"] <= 1


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"results": {"title": "The job was rejected", "detail": "request exceeds the queue"}}, "exceeds the queue"),
        ({"log": [["2026-01-01T00:00:00", "ERROR: no such area"]]}, "no such area"),
        ({}, "404|no reason"),
    ],
)
def test_a_rejected_job_gives_the_reason_of_the_service(store, tmp_path, metadata, said):
    store.store.rejects = metadata
    with pytest.raises(UserError, match=rf"the server's job is rejected: .*({said})"):
        download_era5(one_day(tmp_path), QUICK)


@pytest.mark.parametrize(
    "content", [f"url: https://cds.climate.copernicus.eu/api\nkey: 12345:{KEY}", "url: https://x/api/v2\nkey: word"]
)
def test_the_old_form_of_the_key_is_named(tmp_path, monkeypatch, content):
    (tmp_path / "rc").write_text(content)
    monkeypatch.setenv("CDSAPI_RC", str(tmp_path / "rc"))
    for name in ("CDSAPI_URL", "CDSAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"of the form before 2024 .a key UID:key") as error:
        download_era5(era5(tmp_path / "raw"), QUICK)
    assert KEY not in str(error.value)


def test_jobs_in_the_queue_are_told_of_with_how_to_stop(store, tmp_path, capsys):
    slow = Patience(tries=4, first=0.02, longest=0.1, poll=0.02, report=0.0)
    download_era5(one_day(tmp_path), slow)
    said = capsys.readouterr().out
    assert "waiting for the server's queue, 2 requests to go" in said and "the same command goes on from here" in said


# --- NASA


def test_a_month_without_granules_is_recorded_as_empty_with_the_reason(harmony, tmp_path, capsys):
    harmony.harmony.files = lambda _: {}
    settings = smap(tmp_path / "raw", end=date(2015, 3, 31))
    download_smap(settings, QUICK, local())
    assert "smap_l4_2015-03-31_2015-03-31 is empty: the server has no granule" in capsys.readouterr().out
    asked = len(harmony.harmony.jobs)
    download_smap(settings, QUICK, local())
    assert len(harmony.harmony.jobs) == asked


def test_no_matching_granules_at_submission_is_an_empty_month_too(harmony, tmp_path):
    words = b'{"code": "x", "description": "Error: No matching granules found."}'
    refusal = lambda handler: handler.reply(json.loads(words), 400)  # noqa: E731
    harmony.faults["/SPL4SMGP"] = [refusal]
    download_smap(smap(tmp_path / "raw", end=date(2015, 3, 31)), QUICK, local())
    assert "empty" in Ledger.of(tmp_path / "raw").entries["smap_l4_2015-03-31_2015-03-31"]


def test_days_of_late_without_granules_are_asked_for_again(harmony, tmp_path):
    harmony.harmony.files = lambda _: {}
    day = date.today() - timedelta(days=3)
    settings = smap(tmp_path / "raw", end=day)
    settings.start = day
    for _ in range(2):
        with pytest.raises(UserError, match="the server has no granule"):
            download_smap(settings, QUICK, local())
    assert len(harmony.harmony.jobs) == 2


def test_fewer_granules_than_asked_for_are_not_a_complete_month(harmony, tmp_path):
    settings = smap(tmp_path / "raw", end=date(2015, 3, 31))
    harmony.harmony.state = {"numInputGranules": 11, "errors": [{"url": "x", "message": "granule is corrupt"}]}
    with pytest.raises(UserError, match="gave 8 of 11 granules: granule is corrupt"):
        download_smap(settings, QUICK, local())
    harmony.harmony.state = {}
    download_smap(settings, QUICK, local())
    assert len(harmony.harmony.jobs) == 2 and len(list((tmp_path / "raw").glob("*.h5"))) == 8


def test_whole_granules_are_counted_against_those_that_were_found(tmp_path):
    month = MonthRequest(date(2015, 3, 31), date(2015, 3, 31), whole_granules=True)
    found = [{"size": 140, "meta": {"native-id": f"granule {number}"}} for number in range(3)]
    service = WholeGranules.__new__(WholeGranules)  # without an account
    service.patience, service.earthaccess = QUICK, SimpleNamespace(search_data=lambda **_: found)
    service.earthaccess.download = lambda results, **_: [] if results == found[1:2] else [tmp_path / "a.h5"]
    with pytest.raises(UserError, match="only 2 of 3 granules arrived"):
        service.fetch(month, tmp_path, Ledger.of(tmp_path))
    found.clear()
    with pytest.raises(NothingThere, match="the server has no granule from 2015-03-31"):
        service.fetch(month, tmp_path, Ledger.of(tmp_path))


def test_a_service_that_takes_some_granules_at_a_time_is_asked_for_halves(harmony, tmp_path):
    month = MonthRequest(date(2015, 4, 1), date(2015, 4, 30), whole_granules=False)
    first, second = month.halves()
    assert (first.first, first.last, second.first, second.last) == (
        date(2015, 4, 1), date(2015, 4, 15), date(2015, 4, 16), date(2015, 4, 30),
    )  # fmt: skip
    words = "CMR query identified 16 granules, but the request has been limited to process only the first 8 granules"
    harmony.harmony.state = {"message": words}
    settings = smap(tmp_path / "raw", end=date(2015, 4, 2))
    settings.start = date(2015, 4, 1)
    download_smap(settings, QUICK, local())
    entries = Ledger.of(tmp_path / "raw").entries
    assert len(entries["smap_l4_2015-04-01_2015-04-02"]["parts"]) == 2


def test_a_remembered_job_without_files_is_asked_for_anew(harmony, tmp_path):
    settings = smap(tmp_path / "raw", end=date(2015, 3, 31))
    harmony.harmony.jobs["00000000-0000-4000-8000-999999999999"] = {}
    for job in ("00000000-0000-4000-8000-999999999999", "00000000-0000-4000-8000-123456789abc"):  # empty, and unknown
        Ledger.of(tmp_path / "raw").record("smap_l4_2015-03-31_2015-03-31", job=job)
        download_smap(settings, QUICK, local())
        assert len(list((tmp_path / "raw").glob("*.h5"))) == 8


def test_a_paused_job_ends_and_a_running_one_is_told_of(harmony, tmp_path, capsys):
    settings = smap(tmp_path / "raw", end=date(2015, 3, 31))
    harmony.harmony.state = {"status": "paused", "message": "the job is paused"}
    with pytest.raises(UserError, match="it is paused: the job is paused"):
        download_smap(settings, QUICK, local())
    harmony.harmony.state, harmony.harmony.busy = {}, 2
    download_smap(settings, Patience(tries=4, first=0.02, longest=0.1, poll=0.02, report=0.0), local())
    assert "0 % made on the server: 0 min so far; Ctrl-C stops" in capsys.readouterr().out


def test_a_login_page_in_place_of_a_granule_is_refused_at_download(harmony, tmp_path):
    harmony.harmony.files = lambda _: {"SMAP_L4_SM_gph_20150331T013000_Vv7032_001_subsetted.h5": PAGE}
    with pytest.raises(UserError, match="a web page and no data"):
        download_smap(smap(tmp_path / "raw", end=date(2015, 3, 31)), QUICK, local())
    assert not list((tmp_path / "raw").glob("*.h5"))


@pytest.mark.parametrize("whole", [True, False])
def test_a_missing_account_is_said_before_any_server_is_asked(tmp_path, monkeypatch, whole):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("EARTHDATA_TOKEN", "EARTHDATA_USERNAME", "EDL_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *_: pytest.fail("a server was asked"))
    with pytest.raises(UserError, match="Earthdata credentials are not set up"):
        download_smap(smap(tmp_path / "raw", whole_granules=whole), Patience())
