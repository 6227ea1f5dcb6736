"""How the compact model learns (utils/models/compact.py): in seconds to a minute, from all days at once.

on the land model   episodes: stretches of up to a year in which soil moisture has a satellite's gaps and noise, and
                    each cell's mean is that of a month to nine; the target is the truth. A ridge regression, then
                    networks on what it leaves.
on the target       the regression again, drawn towards the land model's weights as by `prior_days` days of it; then
                    the networks go on. From scratch it is drawn to persistence that fades (as ridge_memory is), and the
                    networks begin at random.
the cell's mean     is that of a short record's own days. Both parts learn as if it were off by the error of such a
                    mean: an error of it moves all anomalies and the target alike.
share               what the networks were worth on days they did not see, in three parts of the record in turn
validation          the RMSE that is reported is of a fit to the training days alone; the model that is kept has learned
                    from training and validation days together, the same way: nothing is chosen by them

All constants were chosen on SMAP L3 over the United States, April to December 2015, held out in blocks of time.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.periods import Split, fills_a_year
from utils.common.ridge import BLOCKS, PENALTIES, Regression
from utils.data_processing import Samples, index_batches
from utils.dataset.recollection import DYNAMIC, SHIFTED, STATIC
from utils.dataset.statistics import CORRELATED_DAYS
from utils.models.compact import UNIT, Compact
from utils.settings import FinetuneSettings, RunSettings
from utils.training.checkpoint import Checkpoint, save_checkpoint
from utils.training.compact_samples import CellSamples, episodes, rows_of
from utils.training.loop import copied, now
from utils.training.run_directory import write_provenance

RIDGE = 10.0  # penalty on the land model, on standardised predictors
DECAY = 0.1  # of the networks' weights, as AdamW has it
STEPS = 4000  # of the networks, at most
MACHINE = {"device": "cpu", "precision": "32-true"}  # what it computes with, whatever Fabric has


def fit_compact(
    model: Compact,
    training: Samples,
    validation: Samples,
    settings: RunSettings,
    checkpoint: Checkpoint,
    run_dir: Path,
    fabric: Fabric,
    on_epoch: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint:
    """As `training.fit`, whose files it writes; `model` has the pre-trained weights where there are any."""
    if fabric.world_size > 1:
        raise UserError("The compact model learns in one process; start it with python instead of torchrun.")
    begun, start = now(), time.perf_counter()
    write_provenance(run_dir, checkpoint, **MACHINE, start=begun, end=None)
    rng = np.random.default_rng(settings.seed)
    held_out = rows_of(validation, rng)
    quiet = True if on_epoch else None
    name = f"{checkpoint.experiment}/{checkpoint.model} lead {settings.lead_days}"
    with tqdm(desc=name, unit=" steps", disable=quiet) as bar:
        learner = Learner(settings, len(training.target_index) + training.skipped, bar)
        if checkpoint.experiment == "ERA5test":
            begin = copy.deepcopy(model)
            rows = episodes(training, settings.episodes, rng)
            val_rmse = rmse(learner.on_the_land_model(model, rows)[0], held_out)
            together = replace(training, periods=(*training.periods, *validation.periods))
            rows = episodes(together, settings.episodes, np.random.default_rng(settings.seed))
            model, loss = learner.on_the_land_model(begin, rows)
        elif settings.epochs == 0:
            rows, loss = held_out, math.nan
            val_rmse = rmse(zero_shot(model), held_out)
        else:
            rows = rows_of(training, rng)
            days = len(validation.target_index) + validation.skipped
            val_rmse = rmse(learner.on_the_target(model, rows)[0], held_out)
            together = CellSamples.joined([rows, held_out])
            learner = Learner(settings, learner.days + days, bar)
            model, loss = learner.on_the_target(model, together)
    seconds = time.perf_counter() - start
    checkpoint.epoch = checkpoint.best_epoch = settings.epochs
    if settings.epochs:
        checkpoint.log.append(
            [settings.epochs, loss, val_rmse**2, val_rmse, seconds, len(rows) * settings.epochs / seconds]
        )
    checkpoint.best_rmse, checkpoint.finished = val_rmse, True
    checkpoint.best = copied(model)
    save_checkpoint(run_dir, checkpoint)
    write_provenance(run_dir, checkpoint, **MACHINE, start=begun, end=now())
    if on_epoch:
        on_epoch(checkpoint)
    return checkpoint


def refit_compact(model: Compact, training: Samples, settings: RunSettings, experiment: str, share: float) -> Compact:
    """The model that it becomes on these samples with this share of its networks, without validation or a file."""
    rng = np.random.default_rng(settings.seed)
    learner = Learner(settings, len(training.target_index) + training.skipped, tqdm(disable=True))
    if experiment == "ERA5test":
        return learner.on_the_land_model(model, episodes(training, settings.episodes, rng))[0]
    if settings.epochs == 0:
        return zero_shot(model)
    return learner.on_the_target(model, rows_of(training, rng), share)[0]


def zero_shot(model: Compact) -> Compact:
    """Without its networks: alone, they are not to be trusted with another product's means."""
    model.share.zero_()
    return model


def days_of_means(split: Split) -> Split:
    """The cells' means are those of training and validation days: a short record has no days to spare."""
    return Split((*split.train, *split.val), split.val, split.test)


class Learner:
    """Fits to rows, with a run's settings; `days` are the target days that made the cells' means."""

    def __init__(self, settings: Any, days: int, bar: tqdm):
        self.settings, self.days, self.bar = settings, days, bar
        self.from_source = isinstance(settings, FinetuneSettings)

    def on_the_land_model(self, model: Compact, rows: CellSamples) -> tuple[Compact, float]:
        """The regression and the networks that a fine-tuning starts from, and their loss."""
        products = products_of(rows)
        deviation = np.append(1e-3, rows.x.std(axis=0, dtype=np.float64))
        solve_towards(model, products, RIDGE * deviation**2, np.zeros(len(deviation)))
        standardise(model, rows)
        return model, self.train(model, rows, 0.0)

    def on_the_target(self, model: Compact, rows: CellSamples, share: float | None = None) -> tuple[Compact, float]:
        """Regression and networks of all rows, the share by parts of them held out in turn if not given; the loss."""
        off = math.sqrt(float(np.mean(rows.y.astype(float) ** 2)) * CORRELATED_DAYS / self.days)
        gain = power = 0.0
        rng = np.random.default_rng(self.settings.seed)
        for part in np.array_split(np.unique(rows.day), BLOCKS) if share is None else ():
            held_out = np.isin(rows.day, part)
            if held_out.all() or not held_out.any():
                continue
            net, rest = self.fitted(model, rows.where(~held_out), off)[0], shifted(rows.where(held_out), off, rng)
            linear, networks = parts_of(net, rest)
            gain += float(((rest.y - linear) * networks).sum())
            power += float((networks**2).sum())
        net, loss = self.fitted(model, rows, off)
        net.share.fill_((min(max(gain / power, 0.0), 1.0) if power > 0 else 0.0) if share is None else share)
        return net, loss

    def fitted(self, model: Compact, rows: CellSamples, off: float) -> tuple[Compact, float]:
        net = copy.deepcopy(model)
        moved = np.concatenate([[0], SHIFTED, np.zeros(net.dynamic - len(DYNAMIC)), [1]])
        products = products_of(rows)
        products += products[:, :1, :1] * off**2 * np.outer(moved, moved)
        if self.from_source:
            per_day = len(rows) / len(np.unique(rows.day))
            deviation = np.append(1.0, model.scale[: net.dynamic].numpy().astype(float))
            weights = torch.cat([net.bias, net.weight]).detach().numpy().astype(float)
            solve_towards(net, products, self.settings.prior_days * per_day * deviation**2, weights)
        else:
            self.solve_from_scratch(net, products, rows)
            standardise(net, rows)
        if self.from_source and self.settings.transfer == "head":
            return net, float(np.mean((rows.y - sum(parts_of(net, rows))) ** 2))
        return net, self.train(net, rows, off)

    def solve_from_scratch(self, net: Compact, products: np.ndarray, rows: CellSamples) -> None:
        """Without the season where the days do not fill a year, as ridge_memory does it."""
        origin = np.datetime64("1970-01-01", "D")
        all_year = fills_a_year(origin + np.unique(rows.day))
        used = np.array(
            [all_year or not name.startswith("season") for name in DYNAMIC] + [True] * (net.dynamic - len(DYNAMIC))
        )
        regression = Regression(products, used, towards=DYNAMIC.index("last_anomaly"))
        weights = regression.fit(regression.best(np.array(PENALTIES) * regression.rows / len(np.unique(rows.day))))
        put(net, weights)

    def train(self, net: Compact, rows: CellSamples, off: float) -> float:
        """Adam on the networks alone, each member by itself; the mean loss of the last epoch, m6 m-6."""
        x, static, y = (torch.from_numpy(part) for part in (rows.x, rows.static, rows.y))
        generator = torch.Generator().manual_seed(self.settings.seed)
        batch = min(self.settings.batch_size, len(y))
        each = len(y) // batch
        steps, loss = min(self.settings.epochs * each, STEPS), math.nan
        optimiser = torch.optim.AdamW(net.networks, lr=self.settings.lr, weight_decay=DECAY)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.settings.lr, total_steps=steps + 1, pct_start=0.1)
        moves, moved_static = moves_of(net.dynamic)
        losses = []
        for step in range(steps):
            if step % each == 0:
                order, losses = torch.randperm(len(y), generator=generator), []
            chosen = order[step % each * batch :][:batch]
            error = off * torch.randn(batch, generator=generator)
            inputs, fixed = x[chosen] + error[:, None] * moves, static[chosen] + error[:, None] * moved_static
            linear = net.linear(inputs).detach()
            found = net.corrections(inputs, fixed, linear)
            squares = ((found - (y[chosen] + error - linear)) / UNIT).square().mean(dim=1)
            optimiser.zero_grad()
            squares.sum().backward()
            optimiser.step()
            plan.step()
            losses.append(squares.mean().item())
            self.bar.update()
        loss = float(np.mean(losses)) * UNIT**2 if losses else loss
        if not math.isfinite(loss) and steps:
            raise UserError("The loss is no longer finite; try a smaller --lr.")
        return loss


# ---------------------------------------------------------------------------------------------------------- regression


def products_of(rows: CellSamples) -> Float[np.ndarray, "block t t"]:
    """Sums of the products of (1, x, y) over the rows of each part of the days."""
    found = []
    for part in np.array_split(np.unique(rows.day), BLOCKS):
        here = rows.where(np.isin(rows.day, part))
        table = np.column_stack([np.ones(len(here)), here.x, here.y]).astype(np.float64)
        found.append(table.T @ table)
    return np.stack(found)


def solve_towards(net: Compact, products: np.ndarray, penalty: np.ndarray, prior: np.ndarray) -> None:
    """Least squares, its weights (bias first) drawn to `prior` with these penalties."""
    total = products.sum(axis=0)
    put(net, np.linalg.solve(total[:-1, :-1] + np.diag(penalty), total[:-1, -1] + penalty * prior))


def put(net: Compact, weights: Float[np.ndarray, "term"]) -> None:
    with torch.no_grad():
        net.bias.fill_(float(weights[0]))
        net.weight.copy_(torch.from_numpy(weights[1:]))


def standardise(net: Compact, rows: CellSamples) -> None:
    """Centre and scale of the networks' inputs."""
    linear = parts_of(net, rows, networks=False)[0]
    inputs = np.column_stack([rows.x, rows.static, linear]).astype(np.float64)
    net.centre.copy_(torch.from_numpy(inputs.mean(axis=0)))
    net.scale.copy_(torch.from_numpy(inputs.std(axis=0) + 1e-6))


@torch.no_grad()
def parts_of(net: Compact, rows: CellSamples, networks: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """What the regression says of each row, and what its networks' mean adds to it before its share is taken."""
    linear, added = [], []
    for part in index_batches(len(rows), 2**16):
        x, static = torch.from_numpy(rows.x[part]), torch.from_numpy(rows.static[part])
        linear.append(net.linear(x))
        added.append(net.corrections(x, static, linear[-1]).mean(dim=0) if networks else linear[-1])
    return torch.cat(linear).numpy(), torch.cat(added).numpy()


def rmse(net: Compact, rows: CellSamples) -> float:
    linear, networks = parts_of(net, rows)
    return float(np.sqrt(np.mean((linear + net.share.item() * networks - rows.y).astype(float) ** 2)))


def shifted(rows: CellSamples, off: float, rng: np.random.Generator) -> CellSamples:
    """The rows as they would be, had their cells' means another error."""
    error = off * rng.standard_normal((len(rows), 1), np.float32)
    moves, moved_static = (part.numpy() for part in moves_of(rows.x.shape[1]))
    return CellSamples(rows.x + error * moves, rows.static + error * moved_static, rows.y + error[:, 0], rows.day)


def moves_of(dynamic: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a cell's mean that is too low by 1 does to x and to the statics; to the target it does 1."""
    moves = np.concatenate([SHIFTED, np.zeros(dynamic - len(DYNAMIC))]).astype(np.float32)
    return torch.from_numpy(moves), -torch.tensor([float(name == "mean_soil_moisture") for name in STATIC])
