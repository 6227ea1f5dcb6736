"""The models, a file each, and what the rest of the project asks of every model (`ForecastModel`).

cnn, lstm, convlstm, conv3d_lstm   the published models, bound to the grid that they were trained on
pixel_lstm, convlstm --head pixel  free of the grid: their weights serve any region and resolution
compact                            ours, free of the grid as well
reference                          the same models as a textbook writes them, to read and to test against
fast_layers                        the layers that make ours faster
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from utils.common.periods import Span, Split
from utils.data_processing import Samples, View, Windows


class ForecastModel(nn.Module):
    """A model that forecasts a map of soil moisture from the maps of the days before.

    A model has `forward`, and overrides whatever differs from the defaults below. Nobody asks a model for its class.
    """

    trainer = "gradient_descent"  # a row of utils.training.TRAINERS: how it is fitted
    windows: type[Windows] = Windows  # how its features are made from a record
    scaled = True  # features and forecasts are min-max scaled; False: they keep their units

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        """The soil moisture `lead_days` after the last day, scaled if the model is, else in m3 m-3."""
        raise NotImplementedError

    def receptive_radius(self, input_days: int) -> int | None:
        """How many cells beyond a cell its forecast looks; None: over the whole map, and it is bound to its grid."""
        return None

    def input_window(self, input_days: int) -> int:
        """How many days the windows have that it learns from."""
        return input_days

    def days_of_means(self, split: Split, experiment: str) -> Split:
        """The split whose training days give the cells' means and the scaling."""
        return split

    def learning_samples(
        self, view: View, periods: Sequence[Span], *, lead_days: int, input_days: int, name: str
    ) -> Samples:
        """The samples to learn from, or to choose the best epoch by. Raises UserError where there are none."""
        return Samples(view, periods, lead_days, self.input_window(input_days), name, self.windows)

    def scoring_samples(
        self, view: View, periods: Sequence[Span], *, lead_days: int, input_days: int, name: str
    ) -> Samples:
        """The samples to forecast. Raises UserError where there are none.

        Their target days have `input_days` days before them whatever the model's own window is: the baselines need
        these days, and all models are scored on the same target days.
        """
        return Samples(view, periods, lead_days, input_days, name, self.windows)
