"""Ridge regression from sums of products. They have one size for any number of days, and sums of parts can be added."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solve

PENALTIES = (1, 3, 10, 30, 100)  # candidates for ridge_memory, in training days; the best on held-out parts is taken
BLOCKS = 3  # the parts: the training samples in order of time, each held out in turn


def sum_products(
    predictors: Float[np.ndarray, "row predictor"], target: Float[np.ndarray, "row"]
) -> Float[np.ndarray, "t t"]:
    """Sums over the rows of the products of (1, predictors, target), in 64 bit: all that least squares has to know."""
    table = np.column_stack([np.ones(len(target)), predictors, target]).astype(np.float64)
    return table.T @ table


def solve_ridge(
    products: Float[np.ndarray, "t t"], penalties: Float[np.ndarray, "term"], prior: Float[np.ndarray, "term"]
) -> Float[np.ndarray, "term"]:
    """Weights of (1, predictors) that minimise the squared error plus penalty · (weight − prior)², summed over weights.

    Ridge regression (Hoerl and Kennard 1970), towards a prior instead of towards 0. With a penalty of 0 everywhere, it
    is ordinary least squares.
    """
    gram = products[:-1, :-1] + np.diag(penalties)
    moment = products[:-1, -1] + penalties * prior
    return solve(gram, moment, assume_a="pos")


class Regression:
    """Ridge regression on standardised predictors from sums of products, [block, term, term] (see `sum_products`).

    Only the predictors `used` have a weight. The penalty draws the weights towards 0, or, with `towards`, towards the
    regression on that predictor alone.
    """

    def __init__(
        self, products: np.ndarray, used: Bool[np.ndarray, "predictor"] | None = None, towards: int | None = None
    ):
        self.products, self.used, self.towards = products, used, towards
        total = products.sum(axis=0)
        self.rows = max(total[0, 0], 1)
        self.mean = total[0, 1:] / self.rows
        deviation = np.sqrt(np.maximum(np.diag(total)[1:] / self.rows - self.mean**2, 0))
        deviation[deviation < 1e-6 * np.abs(self.mean) + 1e-9] = np.inf  # a constant predictor gets no weight
        deviation[-1] = 1  # the target keeps its unit
        self.standard = np.diag(np.append(1.0, 1 / deviation))  # (1, x, y) @ standard = (1, standardised x, y - mean)
        self.standard[0, 1:] = -self.mean / deviation
        self.standardised = self.standard.T @ total @ self.standard
        self.terms = np.flatnonzero(np.append(True, np.ones(len(deviation) - 1, bool) if used is None else used))
        self.prior = np.zeros(len(deviation))
        if towards is not None:
            power, agreement = self.standardised[1 + towards, [1 + towards, -1]]
            self.prior[1 + towards] = agreement / power if power > 0 else 0

    def fit(self, penalty: float) -> Float[np.ndarray, "term"]:
        """Intercept and weights of the predictors as they come."""
        weights = self.standard[:-1, :-1] @ self._solve(penalty)
        weights[0] += self.mean[-1]
        return weights

    def best(self, penalties: Float[np.ndarray, "candidate"]) -> float:
        """The penalty with the least squared error over blocks that were held out in turn.

        A fit without a block knows nothing of it: its standardisation and what it is drawn towards are its own.
        """
        errors = np.zeros(len(penalties))
        for number, block in enumerate(self.products):
            rest = Regression(np.delete(self.products, number, axis=0), self.used, self.towards)
            for i, penalty in enumerate(penalties):
                weights = np.append(rest.fit(penalty), -1)
                errors[i] += weights @ block @ weights
        return float(penalties[np.argmin(errors)])

    def _solve(self, penalty: float) -> Float[np.ndarray, "term"]:
        """Weights of (1, standardised predictors); the 1 bears no penalty but what keeps it defined without a row."""
        penalties = np.append(1e-9, np.full(len(self.terms) - 1, penalty))
        terms_and_target = np.append(self.terms, len(self.standardised) - 1)
        products = self.standardised[np.ix_(terms_and_target, terms_and_target)]
        weights = np.zeros(len(self.prior))
        weights[self.terms] = solve_ridge(products, penalties, self.prior[self.terms])
        return weights
