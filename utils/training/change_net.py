"""How change_net (utils/models/change_net.py) is fitted.

on the land model   The networks of each view learn from pseudo-satellite years of that view, each of them seen once.
                    The target is the truth.
on SMAP             The networks of one view learn on, from maps of all days. Each cell's mean is wrong by an error of
                    known size, which moves all anomalies and the target alike; they learn with such errors.
how far             A month of SMAP can tell less than the land model's years. So the weights stop somewhere between
                    those that they began with (0) and those that learned on (1). Where is decided on days that were
                    held out: three parts of the record in turn (weights between two fits: Wortsman et al. 2022).
                    From scratch, 0 is persistence.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from utils.common.periods import fills_a_year
from utils.common.ridge import BLOCKS
from utils.data_processing import Windows, index_batches
from utils.dataset.predictors import OLDEST
from utils.dataset.statistics import MOISTURE
from utils.models.change_net import COMPLETE, SATELLITE, ChangeNet
from utils.models.compact import UNIT, MemoryWindows
from utils.training import pseudo_satellite
from utils.training.checkpoint import Checkpoint
from utils.training.loop import validate
from utils.training.pseudo_satellite import RECENT, View, draw_years
from utils.training.two_fits import Fit, TwoFits, count_days, keep_finite, mean_error_std, random_numbers

VIEWS = {COMPLETE: pseudo_satellite.COMPLETE, SATELLITE: View(share_observed=(0.3, 0.8), noise=(0.01, 0.03))}
GAPPY = 0.9  # share of observed cell-days below which the satellite's view counts
YEARS_AT_ONCE = 6  # whose days are mixed
WEIGHT_DECAY = 0.03  # as AdamW has it
WARM_UP = 0.1  # share of the steps in which the learning rate rises
LEAST_DEVIATION = 1e-3  # in an input's unit, added to its standard deviation
STEPS_FROM_START = (0.0, 0.25, 0.5, 0.75, 1.0)  # how far the weights may go
FARTHEST_IN_A_SEASON = 0.5  # where the days do not fill a year


@dataclass(frozen=True)
class MapSamples:
    """Whole maps of one block, to learn from."""

    windows: MemoryWindows  # in memory
    truth: Float32[np.ndarray, "time lat lon"]  # m3 m-3, the targets
    oldest: int  # days: age of the last observation up to which a cell counts
    days: Int[np.ndarray, "sample"]  # which of the windows

    def batch(
        self, chosen: Int[np.ndarray, "batch"]
    ) -> tuple[Float[Tensor, "batch input lat lon"], Float[Tensor, "batch lat lon"], Bool[Tensor, "batch lat lon"]]:
        """Features; soil moisture less the cell's mean, m3 m-3; and where that counts."""
        samples, record = self.days[chosen], self.windows.record
        target = self.windows.target_index[samples]
        anomaly = torch.from_numpy(self.truth[target] - record.statistics.cell_mean[MOISTURE])
        age = torch.from_numpy(record.age[target - self.windows.lead_days])
        valid = torch.isfinite(anomaly) & (age >= 0) & (age <= self.oldest)
        return self.windows.batch(samples).features[:, -1], torch.where(valid, anomaly, 0), valid


def observations(windows: MemoryWindows, days: Int[np.ndarray, "sample"] | None = None) -> Iterator[MapSamples]:
    """The windows of each block as samples: all of them, or those of some days."""
    for part in windows:
        chosen = np.arange(len(part)) if days is None else days
        yield MapSamples(part, part.record.observed, oldest=OLDEST, days=chosen)


class ChangeNetTrainer(TwoFits):
    """Fits change_net on the device that Fabric has chosen."""

    model: ChangeNet
    source_twice = False
    step: float | None = None  # how far the weights go, once the trial has found it

    def fit_source(self, training: Windows) -> Fit:
        net, years = copy.deepcopy(self.model), self.settings.pseudo_satellite_years
        loss, count, steps = math.nan, 0, 0
        for kind, view in VIEWS.items():
            net.view.fill_(kind)
            rng = np.random.default_rng([self.settings.seed, kind])
            drawn = (
                MapSamples(year.windows, year.truth, oldest=RECENT, days=np.arange(len(year.windows)))
                for year in draw_years(training, years, rng, view)
            )
            lesson, groups = None, math.ceil(years / YEARS_AT_ONCE)
            for group in range(groups):
                samples = list(islice(drawn, YEARS_AT_ONCE))
                if group == 0 and kind == COMPLETE:
                    standardise_inputs(net, samples, chosen=torch.ones_like(net.scale, dtype=torch.bool))
                lesson = lesson or Lesson(self, net, mean_error=0.0)
                loss = lesson.learn(samples, start=group / groups, end=(group + 1) / groups)
                count += sum(len(part.days) for part in samples)
            steps += lesson.steps if lesson else 0
        net.view.fill_(COMPLETE)
        return Fit(net, loss, count, steps)

    def fit_target(self, training: Windows, finished: Checkpoint | None = None) -> Fit:
        net = self.take_over(training).model
        mean_error = mean_error_std(mean_square(training), count_days(training))
        if finished:
            self.step = float(finished.best["moved"])
        elif self.step is None:
            self.step = self.find_step(net, training, mean_error)
        tuned = self.learn_on(net, training, mean_error)
        between = step_between(net, tuned.model, self.step)
        between.moved.fill_(self.step)
        return replace(tuned, model=between)

    def take_over(self, training: Windows) -> Fit:
        """The networks of the view that these observations are like."""
        net = copy.deepcopy(self.model)
        observed = training.statistics.observed_cells[training.target_index].mean() / training.statistics.scored.sum()
        net.view.fill_(SATELLITE if observed < GAPPY else COMPLETE)
        if not self.pretrained:
            net.scale.zero_()
        standardise_inputs(net, observations(training), chosen=net.scale == 0)
        return Fit(net, loss=math.nan, samples=0)

    def rmse(self, model: ChangeNet, validation: Windows) -> float:
        return validate(self.fabric, model.to(self.fabric.device), validation, self.settings.batch_size)[1]

    def find_step(self, net: ChangeNet, training: Windows, mean_error: float) -> float:
        """Which of STEPS_FROM_START has the lowest squared error on days that were held out.

        Where the days do not fill a year, those held out are of the same season, and say nothing of the others.
        """
        farthest = 1.0 if fills_a_year(training.valid_time) or not self.pretrained else FARTHEST_IN_A_SEASON
        steps = [step for step in STEPS_FROM_START if step <= farthest]
        errors, days = np.zeros(len(steps)), np.arange(len(training))
        for held_out in np.array_split(days, BLOCKS):
            others = np.setdiff1d(days, held_out)
            if not len(held_out) or not len(others):
                continue
            tuned = self.learn_on(net, training, mean_error, others).model
            nets = [step_between(net, tuned, step) for step in steps]
            errors += self.sum_squared_errors(nets, training, mean_error, held_out)
        return steps[int(errors.argmin())]

    def learn_on(
        self, net: ChangeNet, training: Windows, mean_error: float, days: Int[np.ndarray, "sample"] | None = None
    ) -> Fit:
        """A copy of the network that has learned from observations of these days; None: of all days."""
        net = copy.deepcopy(net)
        lesson, loss = Lesson(self, net, mean_error), math.nan
        passes = self.settings.epochs * len(training.blocks)
        for epoch in range(self.settings.epochs):
            for number, part in enumerate(observations(training, days)):
                done = epoch * len(training.blocks) + number
                loss = lesson.learn([part], start=done / passes, end=(done + 1) / passes)
        samples = len(training) if days is None else len(days)
        return Fit(net, loss, samples, lesson.steps)

    @torch.no_grad()
    def sum_squared_errors(
        self, nets: list[ChangeNet], training: Windows, mean_error: float, days: Int[np.ndarray, "sample"]
    ) -> Float[np.ndarray, "net"]:
        """Of each of these networks on these days, m6 m-6, with the same errors of the cells' means."""
        lessons = [Lesson(self, net, mean_error) for net in nets]
        total = np.zeros(len(nets))
        for part in observations(training, days):
            for chosen in index_batches(len(days), self.settings.batch_size):
                batch = part.batch(chosen)
                total += [float(lesson.sum_squares(*batch)[0].mean()) for lesson in lessons]
        return total


class Lesson:
    """AdamW on the networks of the view that counts, each by itself.

    In each step, the mean of each sample's cell is off by a new random error with the std `mean_error`, m3 m-3. The
    learning rate rises in the first WARM_UP of a fit, and then falls to zero like a cosine.
    """

    def __init__(self, trainer: ChangeNetTrainer, net: ChangeNet, mean_error: float):
        self.trainer, self.net, self.mean_error = trainer, net.to(trainer.fabric.device), mean_error
        rate = trainer.settings.lr
        self.optimiser = torch.optim.AdamW(net.networks.parameters(), rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.random = random_numbers(trainer.settings.seed)
        self.steps = 0  # of the optimiser, so far

    def learn(self, samples: list[MapSamples], start: float, end: float) -> float:
        """One pass over the days of all samples, mixed: a part of the fit. Returns the mean loss, m6 m-6."""
        size = self.trainer.settings.batch_size
        batches = []
        for part in samples:
            order = torch.randperm(len(part.days), generator=self.random).numpy()
            batches += [(part, order[chosen]) for chosen in index_batches(len(order), size)]
        total, count = torch.zeros(()), 0
        for done, number in enumerate(torch.randperm(len(batches), generator=self.random), start=1):
            part, chosen = batches[number]
            self.set_rate(start + (end - start) * done / len(batches))
            squares, valid = self.sum_squares(*part.batch(chosen))
            loss = squares.sum() / (UNIT**2 * max(valid, 1))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.trainer.bar.update()
            self.steps += 1
            total, count = total + squares.detach().mean().cpu(), count + valid
        return keep_finite(float(total) / max(count, 1))

    def set_rate(self, progress: float) -> None:
        """Of learning, where this share of the fit is done."""
        falling = (1 + math.cos(math.pi * max(progress - WARM_UP, 0) / (1 - WARM_UP))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.trainer.settings.lr * min(progress / WARM_UP, falling)

    def sum_squares(
        self,
        features: Float[Tensor, "batch input lat lon"],
        anomaly: Float[Tensor, "batch lat lon"],
        valid: Bool[Tensor, "batch lat lon"],
    ) -> tuple[Float[Tensor, "network"], int]:
        """The sum of the squared errors of each network, m6 m-6, and the number of targets."""
        net, device = self.net, self.trainer.fabric.device
        error = self.mean_error * torch.randn(anomaly.shape, generator=self.random)
        number = int(valid.sum())
        features, anomaly, valid, error = (part.to(device) for part in (features, anomaly, valid, error))
        features = features + error[:, None] * net.shift[:, None, None]
        z, scored = net.standardise(features)
        with self.trainer.fabric.autocast():
            change = torch.stack([network(z, scored) for network in net.networks])
        forecast = net.start(features) + UNIT * change.float()
        squares = torch.where(valid, forecast - (anomaly + error), 0).square()
        return squares.sum(dim=(1, 2, 3)), number


def mean_square(training: Windows) -> float:
    """Of soil moisture less the cells' means, m6 m-6."""
    squares = count = 0.0
    for part in observations(training):
        for chosen in index_batches(len(part.days), 64):
            _, anomaly, valid = part.batch(chosen)
            squares, count = squares + float(anomaly.square().sum()), count + int(valid.sum())
    return squares / max(count, 1)


def step_between(start: ChangeNet, end: ChangeNet, step: float) -> ChangeNet:
    """The network whose weights lie between those of two others: 0 has those of `start`, 1 those of `end`."""
    between = copy.deepcopy(start)
    with torch.no_grad():
        for weight, goal in zip(between.parameters(), end.parameters(), strict=True):
            weight.lerp_(goal.to(weight.device), step)
    return between


@torch.no_grad()
def standardise_inputs(net: ChangeNet, samples: Iterable[MapSamples], chosen: Bool[Tensor, "input"]) -> None:
    """Set the centre and scale of the chosen inputs of the networks to those of the samples."""
    if not chosen.any():
        return
    count, total, squares = 0.0, 0.0, 0.0
    for part in samples:
        for days in index_batches(len(part.days), 64):
            features, _, _ = part.batch(days)
            scored = part.windows.statistics.scored
            cells = features[:, :, torch.from_numpy(scored)].double()
            count += cells.shape[0] * cells.shape[2]
            total, squares = total + cells.sum(dim=(0, 2)), squares + cells.square().sum(dim=(0, 2))
    mean = total / count
    deviation = (squares / count - mean**2).clamp(min=0).sqrt()
    net.centre[chosen] = mean[chosen].to(net.centre)
    net.scale[chosen] = deviation[chosen].to(net.scale) + LEAST_DEVIATION
