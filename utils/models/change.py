"""A forecast as the change of soil moisture since the last input day (`--forecast change`), around any network.

The published networks must learn from some hundred days that tomorrow looks like today. Here they start from that: the
output layer starts at zero, and an untrained network is persistence. The bias between two products is in the last map,
and not in the change from it, so that transfer needs no matching.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from utils.common.grid import Grid
from utils.common.periods import Split
from utils.data_processing import Windows
from utils.dataset.statistics import MOISTURE
from utils.models import ForecastModel


class ChangeForecast(ForecastModel):
    """The last input map of soil moisture plus the output of `network`, both scaled, summed in 32 bit."""

    def __init__(self, network: ForecastModel):
        super().__init__()
        self.network = network
        self.trainer, self.windows, self.scaled = network.trainer, network.windows, network.scaled
        for weights in output_layer(network).parameters():
            nn.init.zeros_(weights)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return features[:, -1, MOISTURE].float() + self.network(features).float()

    @property
    def core(self) -> ForecastModel:
        return self.network

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        return {f"network.{name}": where for name, where in self.network.input_weights(inputs, count).items()}

    def receptive_radius(self, input_days: int) -> int | None:
        return self.network.receptive_radius(input_days)

    def input_window(self, input_days: int) -> int:
        return self.network.input_window(input_days)

    def memory(self, input_days: int) -> int:
        return self.network.memory(input_days)

    def days_of_means(self, split: Split, experiment: str) -> Split:
        return self.network.days_of_means(split, experiment)

    def make_windows(self, *arguments: Any, **options: Any) -> Windows:
        return self.network.make_windows(*arguments, **options)


def output_layer(network: nn.Module) -> nn.Module:
    """The last layer of a network that has weights of its own."""
    return [layer for layer in network.modules() if any(True for _ in layer.parameters(recurse=False))][-1]


def build_model(build: Callable[[Any, Grid], ForecastModel], settings: Any, grid: Grid) -> ForecastModel:
    """The model of a train script, whose `build` makes the network, with the forecast that its settings ask for."""
    network = build(settings, grid)
    return ChangeForecast(network) if getattr(settings, "forecast", "value") == "change" else network
