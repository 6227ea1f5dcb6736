"""Latent weather: Gaussian fields of mean 0 and variance 1 that move and are renewed, and how they may go on.

They are correlated as exp(−d²/2L²) in space and form a Markov chain in time: every Fourier mode is an AR(1) process and
the drift turns its phase, so weather systems move; fresh noise every day makes the future unknowable beyond a few
memories. As the chain is Gaussian, its future given the present is the decaying present plus noise.

A field may be compensated: what is too much in one place is too little around it, as the rain of one region takes the
moisture of others. Its longest waves are damped, and the mean over a continent varies little.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float
from tqdm import tqdm

from utils.common.grid import Grid

Modes = Complex[np.ndarray, "*members field ky kx"]
Fields = Float[np.ndarray, "*members field cell"]


@dataclass(frozen=True)
class Field:
    """How a latent field varies in space and time."""

    length: float  # L of the correlation exp(−d²/2L²), degrees
    memory: float  # days, e-folding time of the correlation
    drift: float = 0.0  # eastward, degrees day-1
    compensation: float | None = None  # C, degrees

    def power(self, squared_wavenumber: Float[np.ndarray, "ky kx"]) -> Float[np.ndarray, "ky kx"]:
        """The variance of a mode, not normalised.

        With compensation the correlation is ∝ exp(−d²/2L²) − L²/M² exp(−d²/2M²), where M² = L² + C². Its sum over the
        plane is zero.
        """
        power = np.exp(-squared_wavenumber * self.length**2 / 2)
        if self.compensation is None:
            return power
        return power * -np.expm1(-squared_wavenumber * self.compensation**2 / 2)


@dataclass(frozen=True, eq=False)
class Waves:
    """The Fourier modes of some fields on a domain that is 45° wider than the grid: its periodic edges stay outside."""

    names: tuple[str, ...]
    mask: Bool[np.ndarray, "lat lon"]  # the cells that are asked for
    domain: tuple[int, int]
    spread: Float[np.ndarray, "field ky kx"]  # of each mode, stationary
    decay: Complex[np.ndarray, "field #ky kx"]  # a day's
    kick: Float[np.ndarray, "field ky kx"]  # a day's noise

    @classmethod
    def of(cls, fields: dict[str, Field], grid: Grid, mask: Bool[np.ndarray, "lat lon"]):
        """The modes of these fields on a grid."""
        step = grid.lon[1] - grid.lon[0]
        rows, columns = round(96 / step), 2 * round(60 / step)
        kx = 2 * np.pi * np.arange(min(columns // 2, 30) + 1) / (columns * step)  # shorter waves than 4° carry nothing
        ky = 2 * np.pi * np.fft.fftfreq(rows, step)
        memory = np.array([field.memory for field in fields.values()])[:, None, None]
        drift = np.array([field.drift for field in fields.values()])[:, None, None]
        power = np.stack([field.power(kx**2 + ky[:, None] ** 2) for field in fields.values()])
        # irfft2 adds the mirror image of every mode except those of the first column, of which it keeps the real part
        power[..., 1:] /= 2
        power /= (power[..., 0].sum(-1) + 4 * power[..., 1:].sum((-2, -1)))[:, None, None]
        spread = (rows * columns * np.sqrt(power)).astype(np.float32)
        decay = np.exp(-1 / memory - 1j * kx * drift).astype(np.complex64)
        kick = spread * np.sqrt(1 - np.abs(decay) ** 2)
        return cls(tuple(fields), mask, (rows, columns), spread, decay, kick)

    def only(self, *names: str) -> "Waves":
        """Some of the fields."""
        part = self.rows(*names)
        return Waves(names, self.mask, self.domain, self.spread[part], self.decay[part], self.kick[part])

    def rows(self, *names: str) -> list[int]:
        """Where fields stand among all."""
        return [self.names.index(name) for name in names]

    def noise(self, rng: np.random.Generator, *members: int) -> Modes:
        """Independent modes of variance 2, of one day or of each member."""
        real, imaginary = rng.standard_normal((2, *members, *self.spread.shape), dtype=np.float32)
        return real + 1j * imaginary

    def on_land(self, modes: Modes) -> Fields:
        """The fields that modes make, on the cells that are asked for."""
        height, width = self.mask.shape
        return np.fft.irfft2(modes, s=self.domain)[..., :height, :width][..., self.mask]

    def history(
        self, rng: np.random.Generator, days: int, keep_from: int | None = None
    ) -> tuple[dict[str, Float[np.ndarray, "time cell"]], list[Modes]]:
        """A realisation of the fields, and the modes of each of its days from `keep_from` on."""
        out = np.empty((len(self.names), days, self.mask.sum()), np.float32)
        modes, kept = np.zeros(self.spread.shape, np.complex64), []
        for day in tqdm(range(days), desc="weather", unit="day", disable=True if days == 1 else None):
            modes = self.decay * modes + (self.kick if day else self.spread) * self.noise(rng)
            out[:, day] = self.on_land(modes)
            if keep_from is not None and day >= keep_from:
                kept.append(modes)
        return dict(zip(self.names, out, strict=True)), kept

    def forecast(self, modes: Complex[np.ndarray, "field ky kx"], ahead: int) -> Float[np.ndarray, "lead field cell"]:
        """The fields of the next days as far as the present says: mean and, being Gaussian, best forecast."""
        following = []
        for _ in range(ahead):
            modes = self.decay * modes
            following.append(self.on_land(modes))
        return np.stack(following)

    def deviations(
        self, rng: np.random.Generator, members: int, ahead: int
    ) -> Float[np.ndarray, "lead member field cell"]:
        """How the next days may differ from what is expected, whatever the present: one draw a member."""
        modes, following = np.zeros((members, *self.spread.shape), np.complex64), []
        for _ in range(ahead):
            modes = self.decay * modes + self.kick * self.noise(rng, members)
            following.append(self.on_land(modes))
        return np.stack(following)
