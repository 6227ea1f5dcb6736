"""Jobs side by side: their order, how they end, and a study by every way of running it."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pandas as pd
import pytest
import torch
from calls_of_processes import refuse
from conftest import ROOT, quick_study, subprocess_script, tiny
from distributed import LocalCluster

from utils.common import parallel
from utils.common.cli import UserError
from utils.common.parallel import Job, finish, processes, select_with_needs
from utils.dataset.prepared import write_prepared
from utils.scores.baselines import BASELINES
from utils.study import capacity
from utils.study.capacity import PER_WEIGHT, ROOM, side_by_side
from utils.study.jobs import Study
from utils.study.plan import Plan

TRANSFER = ("ERA5test", "finetune-SMAPtest")


def started(path, name, others=()):
    """A call that notes its start and finds what it needs."""
    assert all((path / other).exists() for other in others)
    (path / name).touch()
    return name


def test_a_job_waits_for_its_needs_and_may_bring_others(tmp_path):
    found = []

    def on_result(job, result):
        found.append(result)
        return [Job("more", partial(started, tmp_path, "more", ["second"]), ("second",))] if result == "first" else ()

    todo = [Job("second", partial(started, tmp_path, "second", ["first"]), ("first",))]
    todo += [Job("first", partial(started, tmp_path, "first")), Job("alone", partial(started, tmp_path, "alone"))]
    with ThreadPoolExecutor(2) as pool:
        finish(todo, pool, 2, on_result)
    assert sorted(found) == ["alone", "first", "more", "second"]


def test_a_refused_job_can_be_left_out_with_what_needs_it_and_the_others_go_on(tmp_path):
    """`on_refusal` returns what is still wanted: jobs that run or are done are not begun again."""
    refused, found = [], []

    def on_refusal(job, error):
        refused.append(f"{job.name}: {error}")
        return [Job(name, partial(started, tmp_path, name)) for name in ("good", "late", "done")]

    def on_result(job, result):
        found.append(result)
        return ()

    todo = [Job("done", partial(started, tmp_path, "done")), Job("bad", refuse, ("done",))]
    todo += [Job("of bad", partial(started, tmp_path, "of bad"), ("bad",)), Job("good", partial(time.sleep, 0.3))]
    with ThreadPoolExecutor(2) as pool:
        finish(todo, pool, 2, on_result, on_refusal=on_refusal)
    assert refused == ["bad: bad: The loss is no longer finite."]
    assert sorted(map(str, found)) == ["None", "done", "late"] and not (tmp_path / "of bad").exists()


def test_a_study_goes_on_without_a_model_that_is_refused(pair):
    plan = Plan.of(pair / "era5.nc", pair / "smap.nc", False, pair / "runs")
    study = Study(plan=plan, models=("cnn", "lstm"), leads=(1,), seeds=(0,), details=True)
    jobs = {job.name: job for job in study.jobs()}
    error = UserError("SMAPtest/cnn/lead1/seed0: cnn needs at least 3 × 3 cells.")
    assert study.detail == "cnn"
    wanted = study.leave_out(jobs["SMAPtest/cnn/lead1/seed0"], error)
    assert study.models == ("lstm",) and study.detail == "lstm"
    assert not [job.name for job in wanted if "/cnn" in job.name]
    assert "SMAPtest/boosting/lead1" in {job.name for job in wanted}
    (line,) = study.left_out_lines
    assert line.startswith("cnn is left out of the study: ") and "3 × 3" in line
    for name in ("SMAPtest/lstm/lead1/seed0", "SMAPtest/boosting/lead1"):  # no model would be left; no model's
        with pytest.raises(UserError, match="3 × 3"):
            study.leave_out({job.name: job for job in wanted}[name], error)


def test_no_more_jobs_run_side_by_side_than_allowed():
    seen = []
    with ThreadPoolExecutor(4) as pool:
        finish([Job(str(i), partial(time.sleep, 0.05)) for i in range(6)], pool, 2, on_glance=seen.append)
    assert max(map(len, seen)) == 2


def test_needed_are_the_jobs_named_and_what_they_start_from():
    known = [Job("a", int), Job("b", int, ("a",)), Job("c", int, ("b",)), Job("d", int, ("a",))]
    assert [job.name for job in select_with_needs(known, ["c"])] == ["a", "b", "c"]
    with pytest.raises(KeyError, match="'e'"):
        select_with_needs(known, ["e"])


def test_a_failed_job_is_named_in_one_sentence_and_the_others_are_stopped(tmp_path):
    start = time.monotonic()
    with (
        pytest.raises(UserError, match=r"^SMAPtest/cnn: The loss is no longer finite\.$"),
        processes(2) as pool,
    ):
        finish([Job("long", partial(time.sleep, 120)), Job("SMAPtest/cnn", refuse)], pool, 2)
    assert time.monotonic() - start < 60


def test_a_process_that_is_killed_is_told_in_one_sentence():
    with pytest.raises(UserError, match="The process of a was ended from outside"), processes(1) as pool:
        finish([Job("a", partial(os._exit, 9))], pool)


@pytest.mark.parametrize(("given", "expected"), [("", "4"), ("3", "3"), ("64", "4")])
def test_processes_share_the_cores(monkeypatch, given, expected):
    """Eight cores, two processes: four threads each, or fewer if the user says so."""
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    found = []
    with processes(2) as pool:
        finish(
            [Job("a", partial(os.getenv, "OMP_NUM_THREADS"))], pool, 2, lambda job, result: found.append(result) or ()
        )
    assert found == [expected]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    write_prepared(tiny(days=1200, start="2012-06-01", shape=(4, 5), seed=1), folder / "era5.nc")
    write_prepared(tiny(days=900, start="2014-01-01", shape=(4, 5)), folder / "smap.nc")
    return folder


def command(pair, out, *more):
    """A study of one small model on few cells."""
    arguments = ["--era5-land", pair / "era5.nc", "--smap", pair / "smap.nc", "--out", out]
    return [*arguments, "--models", "cnn", "--lead-days", 3, "--epochs", 6, *more]


@pytest.fixture(scope="module")
def serial(pair):
    """The study in this process, a job after the other; all others end in the same table."""
    result = quick_study(*command(pair, pair / "serial", "--jobs", 1))
    assert result.code == 0, result.err
    return pair / "serial"


def same_results(one, other):
    tables = [pd.read_csv(path / "table.csv").drop(columns="training_seconds") for path in (one, other)]
    assert tables[0].equals(tables[1])
    for name in ("comparisons.csv", "answers.md"):
        assert (one / name).read_text() == (other / name).read_text()
    runs = [pd.read_json(path / "study.json", typ="series")["runs"] for path in (one, other)]
    assert list(runs[0]) == list(runs[1])


def test_runs_side_by_side_end_in_the_same_table_even_if_the_study_was_killed(pair, serial, tmp_path):
    """SIGKILL cannot be caught, yet no process of the study lives on and holds a run's directory."""
    arguments = command(pair, tmp_path, "--jobs", 2)
    line = [sys.executable, ROOT / "reproduce.py", *arguments]
    study = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for _ in range(3):
        assert study.stdout.readline()
    study.send_signal(signal.SIGKILL)
    study.stdout.read()  # the pipe is closed once the last of its processes is gone
    done = {path: path.stat().st_mtime for path in tmp_path.glob("runs/*/*/*/seed0/metrics.json")}
    assert done and not (tmp_path / "table.csv").exists()
    result = subprocess_script("reproduce.py", *arguments)
    assert result.code == 0, result.err
    assert all(path.stat().st_mtime == before for path, before in done.items())
    same_results(serial, tmp_path)


def test_ctrl_c_stops_every_process_with_one_sentence(pair, tmp_path):
    """The terminal sends it to all processes of the group."""
    arguments = [sys.executable, ROOT / "reproduce.py", *command(pair, tmp_path, "--jobs", 2)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # shells have their background jobs ignore it
    study = subprocess.Popen(list(map(str, arguments)), **pipes, text=True, start_new_session=True, preexec_fn=heard)
    assert study.stdout.readline()
    os.killpg(study.pid, signal.SIGINT)
    _, err = study.communicate(timeout=60)
    assert study.returncode == 130
    assert err.strip() == "interrupted: the same command continues where this one stopped."


def test_ctrl_c_while_a_process_starts_is_heard_afterwards():
    with pytest.raises(KeyboardInterrupt), parallel._uninterrupted():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        started = True
    assert started


def test_a_run_that_fails_is_named_and_what_is_done_stays(pair, tmp_path):
    first = quick_study(*command(pair, tmp_path, "--only", "SMAPtest/cnn/lead3/seed0"))
    assert first.code == 0, first.err
    run_dir = tmp_path / "runs" / "finetune-SMAPtest" / "cnn" / "lead3" / "seed0"
    run_dir.mkdir(parents=True)
    (run_dir / "checkpoint.pt").write_bytes(b"damaged")
    result = quick_study(*command(pair, tmp_path))
    assert "finetune-SMAPtest/cnn/lead3/seed0: " in result.sentence() and "is damaged" in result.sentence()
    assert len(list(tmp_path.glob("runs/*/cnn/lead3/seed0/metrics.json"))) == 2
    assert not (tmp_path / "table.csv").exists()


def test_the_lines_of_a_job_array_make_the_same_study(pair, serial, tmp_path):
    """Round by round until nothing is printed, every line by itself; then the study finds nothing missing.

    The last line of a round is run by a shell, the others here.
    """
    rounds = []
    while printed := quick_study(*command(pair, tmp_path, "--job-array")).out.strip().splitlines():
        rounds.append({line.rsplit("--only ")[-1] for line in printed})
        *others, last = printed
        done = subprocess.run(["bash", "-c", last], capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr
        for line in others:
            python, script, *arguments = shlex.split(line)
            assert (python, script) == (sys.executable, str(ROOT / "reproduce.py"))
            assert quick_study(*arguments).code == 0
    run = "cnn/lead3/seed0"
    assert rounds == [
        {f"ERA5test/{run}", f"SMAPtest/{run}", "SMAPtest/boosting/lead3"},
        {f"finetune-SMAPtest/{run}"},
    ]
    before = {path: path.stat().st_mtime for path in tmp_path.glob("runs/**/predictions.nc")}
    result = quick_study(*command(pair, tmp_path))
    assert result.code == 0, result.err
    assert len(before) == 3 + len(BASELINES)
    assert {path: path.stat().st_mtime for path in tmp_path.glob("runs/**/predictions.nc")} == before
    same_results(serial, tmp_path)


def test_more_leads_of_the_best_model_follow_once_validation_has_told(pair, tmp_path):
    """Means over seeds decide; then pre-training and fine-tuning at the leads that are missing are jobs, once."""
    plan = Plan.of(pair / "era5.nc", pair / "smap.nc", False, tmp_path)
    study = Study(plan, ("cnn", "lstm"), (3, 5), (0, 1), True)
    first = {job.name: job for job in study.jobs()}
    errors = {"cnn/lead3/seed0": 0.02, "cnn/lead3/seed1": 0.05, "lstm/lead3/seed0": 0.03, "lstm/lead3/seed1": 0.03}
    came = [study.add(first[f"finetune-SMAPtest/{run}"], {"validation_rmse": e}) for run, e in errors.items()]
    assert came[:3] == [[]] * 3 and study.best == "lstm"
    expected = {f"{e}/lstm/lead{d}/seed{s}" for e in TRANSFER for d in (1, 2, 7, 10) for s in (0, 1)}
    assert {job.name for job in came[3]} == expected
    assert study.add(first["SMAPtest/cnn/lead3/seed0"], {}) == []
    assert [job.name for job in study.jobs()] == [*first, *(job.name for job in came[3])]
    assert expected < study.runs.keys()
    needs = {job.name: job.needs for job in study.jobs()}
    assert needs["finetune-SMAPtest/lstm/lead10/seed1"] == ("ERA5test/lstm/lead10/seed1",)
    assert needs["finetune-SMAPtest/cnn_30days/lead3/seed0"] == ("ERA5test/cnn/lead3/seed0",)
    assert needs["finetune-SMAPtest/cnn_permuted_precipitation/lead3/seed1"] == ("finetune-SMAPtest/cnn/lead3/seed1",)
    assert needs["SMAPtest/cnn_30days/lead3/seed0"] == needs["SMAPtest/boosting_30days/lead3"] == ()


def test_the_workers_of_a_dask_scheduler_make_the_same_study(pair, serial, tmp_path):
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        result = quick_study(*command(pair, tmp_path, "--scheduler", address))
    assert result.code == 0, result.err
    same_results(serial, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", 0], "--jobs is 0, expected 1 or more"),
        (["--jobs", 2, "--scheduler", "tcp://127.0.0.1:1"], "--jobs is of this machine"),
        (["--only", "SMAPtest/lstm/lead3/seed0"], "--only has 'SMAPtest/lstm/lead3/seed0', which is no run"),
        (["--scheduler", "nonsense://"], "No Dask scheduler answers at nonsense://"),
    ],
)
def test_refusals(pair, tmp_path, script, arguments, message):
    assert message in script("reproduce.py", *command(pair, tmp_path), *arguments).sentence()


def test_as_many_runs_as_cores_and_memory_allow(pair, monkeypatch):
    """The largest model counts: the LSTM, on 4 x 5 cells."""
    plan = Plan.of(pair / "era5.nc", pair / "smap.nc", False, pair)
    monkeypatch.setattr(capacity, "cores", lambda: 8)
    run = ROOM + PER_WEIGHT * sum(weights.numel() for weights in lstm(20))
    for free, expected in ((3 * run, 3), (3 * run - 1, 2), (1, 1), (100 * run, 8)):
        memory = type("Memory", (), {"available": free})
        monkeypatch.setattr(capacity.psutil, "virtual_memory", lambda memory=memory: memory)
        assert side_by_side(plan, ["cnn", "lstm"]) == expected


def lstm(cells):
    return [*torch.nn.LSTM(3 * cells, cells).parameters(), *torch.nn.Linear(cells, cells).parameters()]
