"""Step time, samples per second and memory of every model against the published step, beside the roofline.

Reference and ours run in turns, each time in a process of its own, on the same synthetic days. The roofline is what the
step's products and its weights' way through memory would take at the speed of a large matrix product and of a large
copy.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import published_step
import torch
from bench_common import PATCHES, Settings, in_a_process, our_model, step_data, training_samples
from machine import peak_memory
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from utils.common.files import ROOT
from utils.common.glibc import keep_freed_memory
from utils.data_processing import Windows
from utils.models import reference
from utils.training.change_net import ChangeNetTrainer, Lesson, observations
from utils.training.inference import load_script
from utils.training.loop import start_fabric, train_epoch

BYTES = 36  # a weight's way through memory: read (4), its gradient (4), Adam reads four and writes three values (28)


def count_backward(
    slope, inputs, weight, bias, stride, padding, dilation, transposed, output_padding, groups, wanted, out_shape
) -> int:
    """Operations of a convolution's gradients, from shapes; `wanted` are those of inputs, weights and bias.

    The first two take as many as the convolution. torch's own count takes no notice of groups.
    """
    return sum(wanted[:2]) * conv_flop_count(inputs, weight, slope, transposed)


BACKWARD = {torch.ops.aten.convolution_backward: count_backward}


def ours(name: str, precision: str, shape: tuple[int, int], settings: Settings) -> dict:
    """Seconds a step of `train_epoch`, as the scripts run it."""
    samples = training_samples(step_data(settings, shape), settings)
    fabric = start_fabric(precision)
    keep_freed_memory()
    model = our_model(name, shape, settings.input_days)
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(model.parameters(), fused=True))

    def epoch(chosen: Windows) -> float:
        start = time.perf_counter()
        train_epoch(fabric=fabric, model=wrapped, optimiser=optimiser, training=chosen, batch_size=settings.batch_size)
        return (time.perf_counter() - start) * settings.batch_size / chosen.epoch_size

    (start, _), two_batches = samples.periods[0], 2 * settings.batch_size
    few = samples.in_periods(((start, start + two_batches - 1),), "training")
    epoch(few)
    found = {"seconds": epoch(samples), "memory": peak_memory(), "precision": fabric._precision.precision}
    with FlopCounterMode(display=False, custom_mapping=BACKWARD) as counter:
        epoch(few)
    parameters = sum(p.numel() for p in model.parameters())
    return found | {"flops": counter.get_total_flops() / 2, "parameters": parameters}


def change_net(precision: str, shape: tuple[int, int], settings: Settings) -> dict:
    """Seconds that the networks of a view take to learn from a batch's days, in its script's own smaller batches."""
    data, script = step_data(settings, shape), load_script(ROOT / "SMAPtest" / "train_change_net.py")
    fabric = start_fabric(precision)
    keep_freed_memory()
    model = our_model("change_net", shape, settings.input_days)
    samples = training_samples(data, settings)
    every = {"lead_days": samples.lead_days, "input_days": samples.input_days}
    windows = model.make_windows(samples.data, samples.statistics.unscaled(), **every)
    windows = windows.in_periods(samples.periods, "training")
    trainer = ChangeNetTrainer(model, script.Settings(), fabric)
    net = trainer.take_over(windows).model
    lesson = Lesson(trainer, net, mean_error=0.01)
    (days,) = observations(windows)
    lesson.learn([replace(days, days=days.days[: settings.batch_size])], start=0.0, end=0.1)
    start = time.perf_counter()
    lesson.learn([days], start=0.1, end=1.0)
    seconds = (time.perf_counter() - start) * settings.batch_size / len(days.days)
    parameters = sum(weight.numel() for weight in net.networks.parameters())
    precision = fabric._precision.precision
    return {"seconds": seconds, "memory": peak_memory(), "precision": precision, "parameters": parameters}


def published(name: str, shape: tuple[int, int], settings: Settings) -> dict:
    """Seconds a step of the published kind."""
    samples = training_samples(step_data(settings, shape), settings)
    features, target = published_step.windows(samples.record.features.numpy(), settings.input_days, 3)
    model = reference.MODELS[name](shape, settings.input_days, 3)
    optimiser = torch.optim.Adam(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.npy"
        np.save(mask, samples.statistics.scored)
        order = np.random.default_rng(0).permutation(settings.batch_size * settings.steps)
        batches = order.reshape(settings.steps, -1)

        def epoch(chosen: np.ndarray) -> float:
            start = time.perf_counter()
            for samples in chosen:
                published_step.step(model, optimiser, features=features, target=target, samples=samples, mask_file=mask)
            return (time.perf_counter() - start) / len(chosen)

        epoch(batches[:2])
        return {"seconds": epoch(batches), "memory": peak_memory(), "precision": "32-true"}


def summary(measured: list[dict]) -> dict:
    """Median and spread over the processes, and what is the same in all of them."""
    seconds = [one["seconds"] for one in measured]
    spread = {"seconds": median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return measured[0] | spread | {"memory": max(one["memory"] for one in measured)}


def rows(settings: Settings, peaks: dict[str, float]) -> Iterator[dict]:
    """One row for the reference of each model, and one for each precision of ours.

    change_net has none of its own: it is held against the published ConvLSTM, where that is measured too.
    """
    of_convlstm = math.nan
    for name in settings.of(tuple(reference.MODELS)):
        shape = PATCHES.get(name, settings.shape)
        step_data(settings, shape)
        measured: dict[str, list[dict]] = {kind: [] for kind in ("reference", *settings.precisions)}
        for _ in range(settings.rounds):
            measured["reference"].append(in_a_process(published, name, shape, settings))
            for precision in settings.precisions:
                measured[precision].append(in_a_process(ours, name, precision, shape, settings))
        published_seconds = median(one["seconds"] for one in measured["reference"])
        for kind, found in measured.items():
            row = {"model": name, "step": "reference" if kind == "reference" else "ours", "shape": shape}
            row |= summary(found)
            row["samples_per_second"] = settings.batch_size / row["seconds"]
            row["speed_up"] = published_seconds / row["seconds"]
            if kind != "reference":
                row["roofline"] = row["flops"] / peaks[row["precision"]] + BYTES * row["parameters"] / peaks["copy"]
            yield row
        if name == "convlstm":
            of_convlstm = published_seconds
    if "change_net" in settings.models:
        step_data(settings, settings.shape)
        for precision in settings.precisions:
            measured = [in_a_process(change_net, precision, settings.shape, settings) for _ in range(settings.rounds)]
            row = {"model": "change_net", "step": "ours", "shape": settings.shape} | summary(measured)
            row["samples_per_second"] = settings.batch_size / row["seconds"]
            yield row | {"speed_up": of_convlstm / row["seconds"]}
