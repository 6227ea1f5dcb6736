"""How far a long piece of work is: a bar for a terminal, a line a step for a log, both with what is left."""

import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts steps. Without a terminal, `step` prints a line: number, time, what is left at the present rate."""

    def __init__(self, total: int, name: str = "", unit: str = "it", quiet: bool = False):
        self.done, self.total, self.start, self.quiet = 0, total, time.monotonic(), quiet
        self.bar = tqdm(total=total, desc=name or None, unit=unit, disable=quiet or None, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.bar.close()

    def step(self, what: str, more: int = 0) -> None:
        """Count a step that is done; it brought so many more. `what` it was stands at the end of the line."""
        self.done += 1
        self.total = max(self.total + more, self.done)
        self.bar.total = self.total
        self.bar.update()
        if self.bar.disable and not self.quiet:
            print(self.describe(what), flush=True)

    def describe(self, what: str) -> str:
        """The line of the last step."""
        elapsed = time.monotonic() - self.start
        left = elapsed / self.done * (self.total - self.done)
        times = f"{tqdm.format_interval(elapsed)}, about {tqdm.format_interval(left)} left"
        return f"{self.done} of {self.total}  {times}  {what}"
