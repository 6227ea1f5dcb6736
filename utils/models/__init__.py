"""The models, a file each, and what the rest of the project asks of every model (`ForecastModel`).

cnn, lstm, convlstm, conv3d_lstm   the published models, bound to the grid that they were trained on
convlstm --head no_relu            ours, the same without the ReLU before its dense map
conv_mixer                         ours, without recurrence and free of the grid
pixel_lstm, convlstm --head pixel  free of the grid: their weights serve any region and resolution
compact, change_net                ours, free of the grid as well
change                             --forecast change: any network's output as the change since the last input day
reference                          the same models as a textbook writes them, to read and to test against
fast_layers                        the layers that make ours faster
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from utils.common.cli import UserError
from utils.common.periods import Split
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.dataset.predictors import channel_names
from utils.dataset.statistics import Statistics


class ForecastModel(nn.Module):
    """A model that forecasts a map of soil moisture from the maps of the days before.

    A model has `forward`, and overrides whatever differs from the defaults below. Nobody asks a model for its class.
    """

    trainer = "gradient_descent"  # a row of utils.training.trainers: how it is fitted
    windows: type[Windows] = Windows  # how its features are made of a record
    scaled = True  # features and forecasts are min-max scaled; False: they keep their units

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        """The soil moisture `lead_days` after the last day, scaled if the model is, else in m3 m-3."""
        raise NotImplementedError

    @property
    def core(self) -> nn.Module:
        """The network whose parts --freeze and the strategies of transfer name."""
        return self

    def input_names(self, settings: Any) -> tuple[str, ...]:
        """The inputs that `settings`, of a script or a checkpoint, give to a model like this, each by its own name."""
        return channel_names(settings.predictors, settings.static, settings.known_ahead, settings.lead_days)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        """Which weights touch these inputs, of `count` in all: the axis of each, and the positions along it.

        Needed for `--new-predictors zero` alone. Raises UserError where a model does not say it.
        """
        raise UserError("This model does not say which weights a predictor has, as --new-predictors zero needs.")

    def receptive_radius(self, input_days: int) -> int | None:
        """How many cells beyond a cell its forecast looks; None: over the whole map, and it is bound to its grid."""
        return None

    def input_window(self, input_days: int) -> int:
        """How many days the windows have that it learns from."""
        return input_days

    def memory(self, input_days: int) -> int:
        """How many days up to the last input day shape a forecast."""
        return input_days

    def days_of_means(self, split: Split, experiment: str) -> Split:
        """The split whose training days give the cells' means and the scaling."""
        return split

    def make_windows(
        self, data: DataSet, statistics: Statistics, *, lead_days: int, input_days: int, **options: Any
    ) -> Windows:
        """The windows of all days of a data set, as this model sees them; `options` are those of Windows.

        A model is scored on them, so they have `input_days` days whatever its own input window is: the baselines need
        these days, and all models are scored on the same target days.
        """
        radius = self.receptive_radius(input_days)
        return self.windows(
            data, statistics, lead_days=lead_days, input_days=input_days, receptive_radius=radius, **options
        )
