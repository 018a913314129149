"""Output of a run: metrics for its record, and one progress line."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from eoi.utils import series

Sink = Callable[[str, float, int], None]  # name, value, environment step


class RunLog:
    """Metrics by PyMARL's names. Tensors are fetched here and nowhere else."""

    def __init__(
        self, sink: Sink, title: str, t_max: int, clock: Callable[[], float] = time.monotonic
    ):
        self._sink, self._title, self._t_max, self._clock = sink, title, t_max, clock
        self._start = clock()
        self._shown = -math.inf
        self._live = sys.__stderr__ is not None and sys.__stderr__.isatty()
        self.latest: dict[str, float] = {}
        self.series: series.Metrics = {}

    def metrics(self, values: Mapping[str, Tensor | float], t: int, prefix: str = "") -> None:
        """Logs each value; a vector is logged one entry per agent, as name_0, name_1, ..."""
        for name, value in values.items():
            flat = (
                [float(v) for v in value.flatten().tolist()]
                if isinstance(value, Tensor)
                else [float(value)]
            )
            for i, number in enumerate(flat):
                full = f"{prefix}{name}" if len(flat) == 1 else f"{prefix}{name}_{i}"
                self._sink(full, number, t)
                self.latest[full] = number
                series.append(self.series, full, t, number, series.timestamp())

    def state(self) -> dict[str, Any]:
        return {
            "latest": dict(self.latest),
            "series": series.copied(self.series),
            "seconds": self._clock() - self._start,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.latest, self.series = dict(state["latest"]), series.copied(state["series"])
        self._start = self._clock() - state["seconds"]  # speeds are means over the whole run

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next line: after 0.5 s on a terminal, else after 20 s."""
        return self._clock() - self._shown >= (0.5 if self._live else 20.0)

    def progress(self, t: int, episodes: int, updates: int, last: bool = False) -> None:
        """One line. On a terminal it replaces the line before, unless that was the `last`."""
        now = self._shown = self._clock()
        seconds = max(now - self._start, 1e-9)
        left = seconds * max(self._t_max - t, 0) / max(t, 1)
        parts = [
            f"{self._title}  {min(100 * t / self._t_max, 100):5.1f}%",
            f"{t}/{self._t_max} steps  {episodes} episodes",
            f"{t / seconds:.0f} steps/s  {updates / seconds:.0f} updates/s",
            f"left {int(left) // 60}:{int(left) % 60:02d}" if t else "left ?",
        ]
        parts += [
            f"{label} {self.latest[name]:.2f}" for name, label in _SHOWN if name in self.latest
        ]
        line = "  ".join(parts)
        # A closed stdout, or a full disk behind it, is no reason to end the run.
        with contextlib.suppress(OSError):
            if self._live and sys.__stderr__ is not None:
                print(
                    f"\r\x1b[K{line[:200]}",
                    end="\n" if last else "",
                    file=sys.__stderr__,
                    flush=True,
                )
            else:
                print(line, flush=True)


_SHOWN = (
    ("return_mean", "return"),
    ("test_return_mean", "test return"),
    ("test_battle_won_mean", "test win rate"),
    ("individuality_mean", "p(i|o)"),
)
