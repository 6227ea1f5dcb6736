"""The benchmarks: every part runs at toy size, the table comes from the JSON, and the references are ours in plain."""

import json
from concurrent.futures import ThreadPoolExecutor

import bench
import bench_common
import bench_loader
import bench_memory
import bench_steps
import bench_tables
import numpy as np
import pytest
import synthetic
import torch
from bench_common import Settings, our_model
from conftest import ROOT, subprocess_script
from torch.utils.flop_counter import FlopCounterMode

from utils.data_processing import Batch
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import VARIABLES, read_prepared
from utils.models import reference
from utils.training.loop import sum_squared_errors


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """A toy benchmark; what has a process of its own there runs in this one."""
    monkeypatch.setattr(bench_common, "ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    return Settings(quick=True, folder=tmp_path, out=tmp_path / "bench.json", precisions=("32-true",))


@pytest.mark.parametrize("name", ["pixel_lstm", "convlstm_pixel", "conv_mixer"])
@pytest.mark.parametrize(("shape", "input_days"), [((7, 8), 3), ((5, 3), 7), ((4, 4), 1)])
def test_models_free_of_the_grid_agree_with_their_plain_reference(name, shape, input_days):
    torch.manual_seed(0)
    model, plain = our_model(name, shape, input_days), reference.MODELS[name](shape, input_days, 3)
    plain.load_state_dict(model.state_dict())
    features, target, valid = torch.rand(9, input_days, 3, *shape), torch.rand(9, *shape), torch.rand(9, *shape) < 0.7
    forecast, expected = model(features), plain(features)
    torch.testing.assert_close(forecast, expected, atol=1e-5, rtol=1e-5)
    (sum_squared_errors(forecast, Batch(features, target, valid)) / valid.sum()).backward()
    (expected - target)[valid].square().mean().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        found = torch.zeros_like(theirs) if ours.grad is None else ours.grad  # no recurrence on a single day
        torch.testing.assert_close(found, theirs.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", reference.MODELS)
def test_every_model_is_built_as_its_script_builds_it(name):
    shape = (24, 28)
    plain = reference.MODELS[name](shape, 3, 3)
    assert {key: w.shape for key, w in our_model(name, shape, 3).state_dict().items()} == {
        key: w.shape for key, w in plain.state_dict().items()
    }


def test_the_operations_of_a_step_are_those_by_hand(settings):
    settings.parts, settings.models = ("steps",), ("cnn",)
    bench.main(settings)
    rows = json.loads(settings.out.read_text())["steps"]
    assert [(row["model"], row["step"]) for row in rows] == [("cnn", "reference"), ("cnn", "ours")]
    # products by hand: forward, and twice that backward but for the gradient of the features; 4 × 4 strided positions
    convolution, dense = 2 * 8 * 16 * 48 * 81, 2 * 8 * (48 * 16) * (12 * 14)
    assert rows[1]["flops"] == 2 * convolution + 3 * dense
    assert rows[1]["parameters"] == 82 * 48 + (48 * 16 + 1) * 12 * 14
    peaks = json.loads(settings.out.read_text())["machine"]["peaks"]
    assert rows[1]["roofline"] == pytest.approx(
        rows[1]["flops"] / peaks["32-true"] + 36 * rows[1]["parameters"] / peaks["copy"]
    )


def test_every_part_runs_and_the_table_shows_it(settings):
    settings.parts, settings.models = ("loader", "memory", "scaling", "layouts"), ("cnn", "convlstm_pixel")
    settings.days = (60,)
    bench.main(settings)
    found = json.loads(settings.out.read_text())
    assert [row["data"] for row in found["loader"]] == [
        "whole maps in memory",
        "patches in memory",
        "blocks from Zarr",
        "blocks from NetCDF",
    ]
    assert all(0 < row["share"] < 1 for row in found["loader"])
    assert [row["days"] for row in found["memory"]] == [60]
    assert 0.1 < found["memory"][0]["memory_train"] < 4
    (scaling,) = found["scaling"]
    assert scaling["ratio"] == scaling["two"] / scaling["one"] and scaling["gradients"] > 0
    assert len(found["layouts"]) == 6
    kept = {path.name for path in settings.folder.glob("synthetic_20x26*")}
    assert kept == {f"synthetic_20x26_{days}" for days in ("60days_auto.zarr", "60days_auto.nc")}

    settings.parts, settings.models = ("steps",), ()
    bench.main(settings)  # the other parts keep their numbers
    shown = subprocess_script("benchmarks/bench.py", "--table", settings.out)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert found["machine"]["processor"] in lines[0] and "synthetic data" in lines[0]
    for part, title in (("loader", "loader"), ("memory", "Memory"), ("scaling", "Two processes"), ("layouts", "pass")):
        start = next(i for i, line in enumerate(lines) if line.startswith("**") and title in line) + 2
        body = lines[start + 2 : start + 2 + len(found[part])]
        assert all(line.startswith("| ") and line.count("|") == lines[start].count("|") for line in body)
        assert len(body) == len(found[part])


def test_memory_is_compared_with_that_of_the_shorter_record(settings, monkeypatch):
    peaks = iter([2.0, 1.0, 2.1, 3.0])
    monkeypatch.setattr(bench_memory, "run", lambda arguments: {"seconds": 1.0, "memory": next(peaks)})
    settings.models = ("pixel_lstm",)
    short, long = bench_memory.rows(settings)
    assert (short["ratio_train"], short["ratio_eval"]) == (1, 1)
    assert (long["ratio_train"], long["ratio_eval"], long["days"]) == (1.05, 3, 120)


def test_numbers_of_another_machine_are_not_kept(settings):
    settings.parts, settings.models = ("steps",), ()
    settings.out.write_text(json.dumps({"machine": {"processor": "an abacus"}, "loader": [{}]}))
    bench.main(settings)
    assert "loader" not in json.loads(settings.out.read_text())


@pytest.mark.parametrize(
    ("kind", "layout"), [("zarr", "days"), ("zarr", "months"), ("zarr", "cells"), ("nc", "auto"), ("nc", "contiguous")]
)
def test_synthetic_data_are_the_same_in_every_layout_and_written_once(tmp_path, kind, layout):
    first = read_prepared(synthetic.prepared(tmp_path, (9, 11), 130))
    path = synthetic.prepared(tmp_path, (9, 11), 130, kind, layout)
    other, written = read_prepared(path), path.stat().st_mtime_ns
    for name in VARIABLES:
        np.testing.assert_array_equal(first[name].values, other[name].values)
        assert 0.2 < np.isnan(first[name].values).mean() < 0.5
    assert DataSet(path).synthetic and str(DataSet(path).days[0]) == "2015-03-31"
    synthetic.prepared(tmp_path, (9, 11), 130, kind, layout)
    assert path.stat().st_mtime_ns == written


def test_timed_samples_are_the_samples_and_count_what_the_loop_waits_for(settings):
    samples = bench_common.training_samples(bench_common.step_data(settings, settings.shape), settings, patch=6)
    timed = bench_loader.Timed(samples)
    for expected, found in zip(samples.shuffled(), timed.shuffled(), strict=True):
        before = timed.batches
        some = np.arange(len(expected))[::3]
        for one, other in zip(expected.batch(some), found.batch(some), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert timed.batches > before and timed.blocks > 0


def test_a_filter_of_each_channel_by_itself_counts_no_products_across_channels():
    layer, maps = torch.nn.Conv2d(6, 6, 5, padding=2, groups=6), torch.rand(2, 6, 8, 9, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=bench_steps.BACKWARD) as counter:
        layer(maps).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 6 * 8 * 9) * 25


def test_the_periods_end_with_the_record():
    expected = "--train 2016-12-30 2017-01-18 --val 2017-01-19 2017-01-28 --test 2017-01-29 2017-03-29"
    assert bench_memory.periods(730, 20, 60) == expected.split()


def test_the_committed_tables_are_those_of_the_committed_numbers():
    numbers = json.loads((ROOT / "docs" / "results" / "bench.json").read_text())
    assert bench_tables.markdown(numbers).strip() in (ROOT / "docs" / "benchmarks.md").read_text()
    ours = [row for row in numbers["steps"] if row["step"] != "reference" and row["precision"] == "bf16-mixed"]
    assert len(ours) == 10
    assert all(max(row["memory_train"], row["memory_eval"]) < 2 for row in numbers["memory"])
