"""How the compact model (utils/models/compact.py) is fitted, from all days at once.

on the land model   It learns from pseudo-satellite years: up to a year of the land model in which soil moisture has a
                    satellite's gaps and noise, and each cell's mean is that of one to nine months. The target is the
                    truth. First a ridge regression is fitted, then networks on what the regression leaves.
on SMAP             The regression is fitted again. Its weights are drawn towards those of the land model as strongly as
                    by `prior_days` days of it. Then the networks go on learning. From scratch, the regression is drawn
                    towards a persistence that fades (like ridge_memory), and the networks begin at random.
the cell's mean     A short record's mean is wrong by an error of known size, which moves all anomalies and the target
                    alike. Regression and networks learn with such errors.
share               What the networks were worth on days that they had not seen: three parts of the record in turn.
utils/training/two_fits.py says from which days.
"""

import copy
import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from utils.common.periods import fills_a_year
from utils.common.ridge import BLOCKS, PENALTIES, Regression, solve_ridge, sum_products
from utils.data_processing import Windows, index_batches
from utils.dataset.antecedent_features import follows_season, shifts
from utils.models.compact import DYNAMIC, STATIC, UNIT, Compact
from utils.training.checkpoint import Checkpoint
from utils.training.compact_samples import CellSamples, draw_observations, draw_pseudo_satellite_years
from utils.training.two_fits import Fit, TwoFits, count_days, keep_finite, mean_error_std, random_numbers

LAND_MODEL_PENALTY = 10.0  # of the regression on the land model, on standardised predictors
WEIGHT_DECAY = 0.1  # of the networks, as AdamW has it
MOST_STEPS = 4000  # of the networks
SAMPLES_AT_ONCE = 2**16  # that are forecast


class CompactTrainer(TwoFits):
    """Fits the compact model on the processor."""

    model: Compact

    @property
    def machine(self) -> dict[str, str]:
        return {"device": "cpu", "precision": "32-true"}

    def fit_source(self, training: Windows) -> Fit:
        rng = np.random.default_rng(self.settings.seed)
        years = draw_pseudo_satellite_years(training, self.settings.pseudo_satellite_years, rng)
        return self.fit_to_land_model(years)

    def fit_target(self, training: Windows, finished: Checkpoint | None = None) -> Fit:
        rng = np.random.default_rng(self.settings.seed)
        share = float(finished.best["share"]) if finished else None
        return self.fit_to_observations(draw_observations(training, rng), days=count_days(training), share=share)

    def take_over(self, training: Windows) -> Fit:
        """The regression alone: untrained for another product's means, the networks are not to be trusted."""
        self.model.share.zero_()
        return Fit(self.model, loss=math.nan, samples=0)

    def rmse(self, model: Compact, validation: Windows) -> float:
        samples = draw_observations(validation, np.random.default_rng(self.settings.seed))
        linear, networks = forecast_parts(model, samples)
        error = linear + model.share.item() * networks - samples.y
        return float(np.sqrt(np.mean(error.astype(float) ** 2)))

    def fit_to_land_model(self, samples: CellSamples) -> Fit:
        """The regression and the networks that a fine-tuning starts from."""
        net = copy.deepcopy(self.model)
        deviation = np.append(1e-3, deviations(samples.x))
        products = sum_products_of_parts(samples).sum(axis=0)
        set_regression(net, solve_ridge(products, LAND_MODEL_PENALTY * deviation**2, np.zeros(len(deviation))))
        standardise_inputs(net, samples, chosen=torch.ones_like(net.scale, dtype=torch.bool))
        return Fit(net, loss=self.train_networks(net, samples, mean_error=0.0), samples=len(samples))

    def fit_to_observations(self, samples: CellSamples, days: int, share: float | None = None) -> Fit:
        """Regression and networks of all samples. `days` are the target days that made the cells' means.

        The share of the networks is found by cross-validation where it is not given.
        """
        mean_error = mean_error_std(float(np.mean(samples.y.astype(float) ** 2)), days)
        share = self.find_share(samples, mean_error) if share is None else share
        fit = self.fit_both_parts(samples, mean_error)
        fit.model.share.fill_(share)
        return fit

    def find_share(self, samples: CellSamples, mean_error: float) -> float:
        """The factor of the networks that is best on days they have not seen, by least squares; from 0 to 1."""
        rng = np.random.default_rng(self.settings.seed)
        agreement = power = 0.0
        for days in np.array_split(np.unique(samples.day), BLOCKS):
            held_out = np.isin(samples.day, days)
            if held_out.all() or not held_out.any():
                continue
            net = self.fit_both_parts(samples.where(~held_out), mean_error).model
            unseen = perturb_cell_mean(samples.where(held_out), net, mean_error, rng)
            linear, networks = forecast_parts(net, unseen)
            agreement += float(((unseen.y - linear) * networks).sum())
            power += float((networks**2).sum())
        return float(np.clip(agreement / power, 0, 1)) if power > 0 else 0.0

    def fit_both_parts(self, samples: CellSamples, mean_error: float) -> Fit:
        """The regression, then the networks on what it leaves; `mean_error` is the std of the cell means' error."""
        net = copy.deepcopy(self.model)
        effect_on_x, _ = mean_error_effects(net)
        effect = np.array([0, *effect_on_x, 1])
        products = sum_products_of_parts(samples)
        products += products[:, :1, :1] * mean_error**2 * np.outer(effect, effect)
        if self.pretrained:
            standardise_inputs(net, samples, chosen=net.scale == 0)
            self.fit_regression_near_source(net, products.sum(axis=0), samples)
        else:
            self.fit_regression_from_scratch(net, products, samples)
            standardise_inputs(net, samples, chosen=torch.ones_like(net.scale, dtype=torch.bool))
        if self.pretrained and self.settings.transfer == "head":
            linear, networks = forecast_parts(net, samples)
            loss = float(np.mean((samples.y - (linear + networks)) ** 2))
        else:
            loss = self.train_networks(net, samples, mean_error)
        return Fit(net, loss, len(samples))

    def fit_regression_near_source(self, net: Compact, products: np.ndarray, samples: CellSamples) -> None:
        """Draw the weights towards the land model's, as strongly as by `prior_days` days of samples of it."""
        samples_per_day = len(samples) / len(np.unique(samples.day))
        deviation = np.append(1.0, net.scale[: net.dynamic].numpy().astype(float))
        prior = torch.cat([net.bias, net.weight]).detach().numpy().astype(float)
        set_regression(net, solve_ridge(products, self.settings.prior_days * samples_per_day * deviation**2, prior))

    def fit_regression_from_scratch(self, net: Compact, products: np.ndarray, samples: CellSamples) -> None:
        """As ridge_memory is fitted: without the season where the days do not fill a year."""
        days = np.unique(samples.day)
        all_year = fills_a_year(np.datetime64("1970-01-01", "D") + days)
        used: Bool[np.ndarray, "predictor"] = np.ones(net.dynamic, bool)
        used[: len(net.features)] = [all_year or not follows_season(name) for name in net.features]
        regression = Regression(products, used, towards=DYNAMIC.index("last_anomaly"))
        penalties = np.array(PENALTIES) * regression.rows / len(days)
        set_regression(net, regression.fit(regression.best(penalties)))

    def train_networks(self, net: Compact, samples: CellSamples, mean_error: float) -> float:
        """AdamW on the networks alone, each by itself; returns the mean loss of the last epoch, m6 m-6.

        In each step, the mean of each sample's cell is off by a new random error with the std `mean_error`.
        """
        x, static, y = (torch.from_numpy(part) for part in (samples.x, samples.static, samples.y))
        effect_on_x, effect_on_static = (torch.from_numpy(effect) for effect in mean_error_effects(net))
        generator = random_numbers(self.settings.seed)
        batch_size = min(self.settings.batch_size, len(y))
        batches = len(y) // batch_size
        steps, rate = min(self.settings.epochs * batches, MOST_STEPS), self.settings.lr
        optimiser = torch.optim.AdamW(net.networks, lr=rate, weight_decay=WEIGHT_DECAY)
        rise = max(0.1, 2 / (steps + 1))  # share of the steps; the schedule divides by their number less one
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=rise)
        losses = []
        for step in range(steps):
            batch = step % batches
            if batch == 0:
                order, losses = torch.randperm(len(y), generator=generator), []
            chosen = order[batch * batch_size :][:batch_size]
            error = mean_error * torch.randn(batch_size, generator=generator)
            inputs = x[chosen] + error[:, None] * effect_on_x
            fixed = static[chosen] + error[:, None] * effect_on_static
            linear = net.linear(inputs).detach()
            residual = y[chosen] + error - linear
            loss = ((net.corrections(inputs, fixed, linear) - residual) / UNIT).square().mean(dim=1)  # of each network
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.mean().item())
            self.bar.update()
        return keep_finite(float(np.mean(losses))) * UNIT**2 if losses else math.nan


# ------------------------------------------------------------------------------------------- errors of the cells' means


def mean_error_effects(net: Compact) -> tuple[Float32[np.ndarray, "dynamic"], Float32[np.ndarray, "static"]]:
    """What a mean that is too low by 1 adds to x and to the static features; to the target it adds 1."""
    effects = zip((shifts(DYNAMIC), shifts(STATIC)), (net.dynamic, net.static), strict=True)
    on_x, on_static = (np.append(effect, np.zeros(count - len(effect))) for effect, count in effects)
    return on_x.astype(np.float32), on_static.astype(np.float32)


def perturb_cell_mean(samples: CellSamples, net: Compact, std: float, rng: np.random.Generator) -> CellSamples:
    """The samples as they would be if each cell's mean had another error, with this standard deviation."""
    error = std * rng.standard_normal((len(samples), 1), np.float32)
    effect_on_x, effect_on_static = mean_error_effects(net)
    return CellSamples(
        x=samples.x + error * effect_on_x,
        static=samples.static + error * effect_on_static,
        y=samples.y + error[:, 0],
        day=samples.day,
    )


# ---------------------------------------------------------------------------------------------------------- regression


def sum_products_of_parts(samples: CellSamples) -> Float[np.ndarray, "block t t"]:
    """Sums of the products of (1, x, y) over the samples of each of BLOCKS parts of the days."""
    parts = [samples.where(np.isin(samples.day, days)) for days in np.array_split(np.unique(samples.day), BLOCKS)]
    return np.stack([sum_products(part.x, part.y) for part in parts])


def deviations(x: Float[np.ndarray, "row predictor"]) -> Float[np.ndarray, "predictor"]:
    """The standard deviation of each predictor; 1 where it is constant, as the rain upwind is on a single cell.

    A penalty is proportional to its square. With a penalty of 0, a constant predictor makes the regression singular.
    """
    deviation = x.std(axis=0, dtype=np.float64)
    constant = deviation < 1e-6 * np.abs(x.mean(axis=0, dtype=np.float64)) + 1e-9
    return np.where(constant, 1.0, deviation)


def set_regression(net: Compact, weights: Float[np.ndarray, "term"]) -> None:
    """Put bias and weights of a regression into the model."""
    with torch.no_grad():
        net.bias.fill_(float(weights[0]))
        net.weight.copy_(torch.from_numpy(weights[1:]))


@torch.no_grad()
def standardise_inputs(net: Compact, samples: CellSamples, chosen: Bool[Tensor, "input"]) -> None:
    """Set the centre and scale of the chosen inputs of the networks to those of the samples."""
    if not chosen.any():
        return
    parts = index_batches(len(samples), SAMPLES_AT_ONCE)
    linear = np.concatenate([net.linear(torch.from_numpy(samples.x[part])).numpy() for part in parts])
    inputs = np.column_stack([samples.x, samples.static, linear]).astype(np.float64)
    net.centre[chosen] = torch.from_numpy(inputs.mean(axis=0))[chosen].to(net.centre)
    net.scale[chosen] = torch.from_numpy(inputs.std(axis=0) + 1e-6)[chosen].to(net.scale)


@torch.no_grad()
def forecast_parts(net: Compact, samples: CellSamples) -> tuple[Float32[np.ndarray, "row"], Float32[np.ndarray, "row"]]:
    """The regression's forecast of y, and what the networks' mean adds to it before the share is taken, m3 m-3."""
    linear, networks = [], []
    for part in index_batches(len(samples), SAMPLES_AT_ONCE):
        x, static = torch.from_numpy(samples.x[part]), torch.from_numpy(samples.static[part])
        linear.append(net.linear(x))
        networks.append(net.corrections(x, static, linear[-1]).mean(dim=0))
    return torch.cat(linear).numpy(), torch.cat(networks).numpy()
