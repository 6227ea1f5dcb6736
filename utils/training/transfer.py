"""What of pre-trained weights learns: which parts, from when on, at what rate and towards what (docs/transfer.md).

A model's parts are its top-level modules that have weights, in their order from the input to the head; the head is the
last one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from utils.common.cli import UserError
from utils.models import ForecastModel
from utils.models.fast_layers import BLOCK
from utils.settings import FinetuneSettings, RunSettings

RATE_DIVISOR = 2.6  # of discriminative, for each part below the head (Howard & Ruder 2018)


@dataclass(frozen=True)
class Transfer:
    """Which parts of a model learn, and how."""

    parts: dict[str, list[nn.Parameter]]  # all of them, from the input to the head
    rates: dict[str, float]  # learning rates of those that learn, in the same order
    every: int = 0  # epochs after which one more of them learns, from the head down; 0: all from the first epoch
    strength: float = 0.0  # of the pull towards the source weights
    source: list[tuple[nn.Parameter, Tensor]] = field(default_factory=list)  # weights and where they are pulled

    @classmethod
    def of(
        cls,
        model: ForecastModel,
        settings: RunSettings,
        source: dict[str, Tensor] | None = None,
        device: torch.device | None = None,
    ) -> "Transfer":
        """What the settings ask for; without pre-training, all weights learn at one rate.

        Parts that never learn get no gradient from here on. `source` are the pre-trained weights by name, for l2sp
        alone; on the processor they stay where they are, such as in the pages of their file. Raises UserError for
        parts the model does not have, and where nothing is left to learn.
        """
        parts = parts_of(model)
        if not isinstance(settings, FinetuneSettings):
            return cls(parts, dict.fromkeys(parts, settings.lr))
        names = list(parts)
        frozen = {_known(name, names) for name in settings.freeze}
        frozen |= set(names[:-1]) if settings.transfer == "head" else set()
        steps = {
            name: len(names) - 1 - i if settings.transfer == "discriminative" else 0 for i, name in enumerate(names)
        }
        rates = {name: settings.lr / RATE_DIVISOR ** steps[name] for name in names if name not in frozen}
        if not rates:
            raise UserError(f"--freeze {' '.join(settings.freeze)} leaves no part of the model that learns.")
        for name in frozen:
            for parameter in parts[name]:
                parameter.requires_grad_(False)
        every = settings.unfreeze_every if settings.transfer == "gradual" else 0
        if settings.transfer != "l2sp":
            return cls(parts, rates, every)
        learning = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        pulled = [(weight, (source or {})[name].to(device)) for name, weight in learning]
        return cls(parts, rates, every, settings.l2sp, pulled)

    @property
    def last_unfreezing(self) -> int:
        """Epochs completed when the last part begins to learn."""
        return self.every * (len(self.rates) - 1)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser: the parts that learn, those of the same rate together."""
        by_rate: dict[float, list[nn.Parameter]] = {}
        for name, rate in self.rates.items():
            by_rate.setdefault(rate, []).extend(self.parts[name])
        return [{"params": parameters, "lr": rate} for rate, parameters in by_rate.items()]

    def unfreeze(self, epoch: int) -> None:
        """Let the parts learn whose turn has come after this many epochs; the others get no gradient."""
        count = 1 + epoch // self.every if self.every else len(self.rates)
        for turn, name in enumerate(reversed(self.rates)):
            for parameter in self.parts[name]:
                parameter.requires_grad_(turn < count)

    def pull(self) -> None:
        """Add the gradient of strength / 2 · |w − w_source|² (L2-SP, Li et al. 2018), a block of weights at a time."""
        for weight, goal in self.source:
            if weight.grad is not None:
                blocks = (tensor.view(-1).split(BLOCK) for tensor in (weight.grad, weight.detach(), goal))
                for gradient, own, there in zip(*blocks, strict=True):
                    gradient.add_(own - there, alpha=self.strength)


def add_inputs(
    model: ForecastModel, weights: dict[str, Tensor], there: tuple[str, ...], here: tuple[str, ...], new: Iterable[str]
) -> dict[str, Tensor]:
    """Pre-trained weights as `model` takes them, where it has inputs that its source lacks: these weigh 0.

    `there` and `here` are the names of the source's inputs and of the model's, in the same order. `new` are those that
    the source did not see: some stand in `here` alone, others are inputs of the source without a value.
    """
    own, adapted = model.state_dict(), dict(weights)
    before, after = ([number for number, name in enumerate(names) if name in new] for names in (there, here))
    unseen = model.input_weights(before, len(there))
    for name, (axis, positions) in model.input_weights(after, len(here)).items():
        kept, seen = (torch.ones(values.shape[axis], dtype=torch.bool) for values in (own[name], weights[name]))
        kept[positions], seen[unseen[name][1]] = False, False
        adapted[name] = torch.zeros_like(own[name])
        adapted[name].index_copy_(axis, kept.nonzero()[:, 0], weights[name].index_select(axis, seen.nonzero()[:, 0]))
    return adapted


def parts_of(model: ForecastModel) -> dict[str, list[nn.Parameter]]:
    """The weights of each top-level part, from the input to the head."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.core.named_parameters():
        parts.setdefault(name.partition(".")[0], []).append(parameter)
    return parts


def _known(name: str, names: list[str]) -> str:
    if name not in names:
        raise UserError(f"--freeze has {name!r}, expected some of this model's parts: {', '.join(names)}.")
    return name
