"""Games that are plain Python, one copy at a time, as a batch of copies behind the interface of all worlds; in this process or in
worker processes.

A worker that fails ends the run with its traceback, a worker that dies ends it with its exit status, and no worker outlives the
process that started it.

Axes: N copies, A agents, U actions, O observation, S state; K copies of one worker.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from eoi.envs.base import EnvSpec, TimeStep
from eoi.utils.errors import Failure, UserError
from eoi.utils.shapes import Int, UInt8

_PATIENCE = 2.0  # seconds that a worker may take to end by itself
_METHOD = (
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)  # safe beside threads and CUDA


class GameStep(NamedTuple):
    """One moment of one game; of a group of copies, each field with an axis K in front."""

    obs: np.ndarray  # [A, O], spec.obs_dtype
    state: np.ndarray  # [S] float32
    avail: np.ndarray  # [A, U] bool, at least one action for each agent
    reward: float | np.ndarray  # the team's, or where spec.individual_rewards each agent's own, [A]
    terminated: bool | np.ndarray
    truncated: bool | np.ndarray
    info: dict[str, Any]  # numbers or arrays [A], the same keys at every step


@runtime_checkable
class Game(Protocol):
    """A single copy. All its randomness comes from the seed of its reset. What it raises ends the run, with a traceback unless one
    line explains it (utils.errors)."""

    spec: EnvSpec

    def reset(self, seed: int) -> GameStep: ...
    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep: ...
    def render(self) -> UInt8[np.ndarray, "height width 3"]: ...
    def text(self) -> str: ...
    def close(self) -> None: ...


class WorkerError(RuntimeError):
    """A game failed in its worker; the message holds the worker's traceback."""


class _Copies:
    """K copies of a game in the process that holds this object. A copy that has finished repeats its last moment."""

    def __init__(self, make: Callable[[], Game], count: int):
        self.games = [make() for _ in range(count)]
        self.last: list[GameStep] = []

    def spec(self) -> EnvSpec:
        return self.games[0].spec

    def reset(self, seeds: Sequence[int]) -> GameStep:
        self.last = [game.reset(seed) for game, seed in zip(self.games, seeds, strict=True)]
        return _stacked(self.last)

    def step(self, actions: Int[np.ndarray, "K A"]) -> GameStep:
        for k, (game, last) in enumerate(zip(self.games, self.last, strict=True)):
            over = last.terminated or last.truncated
            self.last[k] = (
                last._replace(reward=last.reward * 0.0) if over else game.step(actions[k])
            )
        return _stacked(self.last)

    def render(self, copy: int) -> np.ndarray:
        return self.games[copy].render()

    def text(self, copy: int) -> str:
        return self.games[copy].text()

    def each(self, name: str) -> list[Any]:
        return [getattr(game, name)() for game in self.games]

    def close(self) -> None:
        for game in self.games:
            game.close()


def _stacked(steps: Sequence[GameStep]) -> GameStep:
    return _joined(steps, np.stack)


def _joined(steps: Sequence[GameStep], join: Callable[[list[Any]], np.ndarray]) -> GameStep:
    """Field by field."""
    info = {name: join([np.asarray(step.info[name]) for step in steps]) for name in steps[0].info}
    fields = {
        name: join([np.asarray(getattr(step, name)) for step in steps])
        for name in GameStep._fields
        if name != "info"
    }
    return GameStep(**fields, info=info)


class _Here:
    """Copies in this process. Asked and answered as a worker is."""

    def __init__(self, make: Callable[[], Game], count: int):
        self._copies = _Copies(make, count)

    def ask(self, name: str, *args: Any) -> None:
        self._answer = getattr(self._copies, name)(*args)

    def answer(self) -> Any:
        return self._answer

    def close(self) -> None:
        self._copies.close()


class _Worker:
    """Copies in a process of their own, at the other end of a pipe."""

    def __init__(self, make: Callable[[], Game], count: int):
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(
                ["torch", __name__]
            )  # imported once, not in each worker (torch even where src is not found)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, make, count), daemon=True)
        self._process.start()
        theirs.close()
        self.close = weakref.finalize(
            self, _end, self._process, self._pipe
        )  # also when this process ends

    def ask(self, name: str, *args: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker is reported where its answer is missed
            self._pipe.send((name, args))

    def answer(self) -> Any:
        connection.wait([self._pipe, self._process.sentinel])
        try:
            answer, failure = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            raise WorkerError(
                f"a worker process died (exit status {self._process.exitcode})"
            ) from None
        if isinstance(failure, (UserError, Failure)):
            raise failure
        if failure is not None:
            raise WorkerError(f"a game failed in its worker process:\n{failure}")
        return answer


def _end(process: Any, pipe: connection.Connection) -> None:
    """Politely, then not."""
    with contextlib.suppress(OSError):
        pipe.send(None)
    pipe.close()
    for finish in (lambda: None, process.terminate, process.kill):
        finish()
        process.join(_PATIENCE)
        if process.exitcode is not None:
            return


def _work(pipe: connection.Connection, make: Callable[[], Game], count: int) -> None:
    """A worker's life: build, then answer until told to stop or nobody is left to ask."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(
        target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()
    torch.set_num_threads(1)
    copies = None
    try:
        copies = _Copies(make, count)
        while (question := _next(pipe)) is not None:
            name, args = question
            pipe.send((getattr(copies, name)(*args), None))
    except (UserError, Failure) as error:
        _report(pipe, error)
    except Exception:
        _report(pipe, traceback.format_exc())
    finally:
        with contextlib.suppress(Exception):
            if copies is not None:
                copies.close()


def _leave_with(parent: Any) -> None:
    """Ends this process when its parent has ended, however that happened and whatever the game is doing."""
    parent.join()
    time.sleep(
        _PATIENCE
    )  # the pipe is closed, so that a worker that waits for questions closes its games now
    os._exit(1)


def _next(pipe: connection.Connection) -> Any:
    """The next question; None when nobody is left to ask."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _report(pipe: connection.Connection, failure: Any) -> None:
    with contextlib.suppress(OSError):
        pipe.send((None, failure))


def in_workers(workers: int, n_envs: int) -> list[int]:
    """How many copies each worker has, as equal as can be."""
    workers = min(workers, n_envs)
    return [n_envs // workers + (k < n_envs % workers) for k in range(workers)]


class GameEnv:
    """N copies of a game as one world. `make` must be picklable when there are workers; 0 workers: all in this process."""

    action_names: tuple[str, ...] | None = None

    def __init__(
        self,
        make: Callable[[], Game],
        n_envs: int,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.n_envs, self.device = n_envs, torch.device(device)
        sizes = in_workers(workers, n_envs) if workers else [n_envs]
        self._groups: list[_Here | _Worker] = []
        try:
            for size in sizes:
                self._groups.append((_Worker if workers else _Here)(make, size))
            self._ends = np.cumsum(sizes)[:-1]  # where the next group's copies begin
            self._places = [(group, k) for group, size in enumerate(sizes) for k in range(size)]
            self.spec: EnvSpec = self._ask_all("spec", [()] * len(sizes))[0]
        except BaseException:
            self.close()
            raise

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        seeds = (keys.cpu().numpy() & (2**31 - 1)).tolist()  # games want a seed that fits 32 bits
        return self._moment([(seeds[a:b],) for a, b in self._spans()], "reset")

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        chosen = actions.cpu().numpy()
        self._refuse(chosen)
        return self._moment([(chosen[a:b],) for a, b in self._spans()], "step")

    def _spans(self) -> list[tuple[int, int]]:
        edges = [0, *self._ends.tolist(), self.n_envs]
        return list(itertools.pairwise(edges))

    def _refuse(self, actions: Int[np.ndarray, "N A"]) -> None:
        inside = (actions >= 0) & (actions < self.spec.n_actions)
        allowed = np.take_along_axis(
            self._avail, actions.clip(0, self.spec.n_actions - 1)[..., None], 2
        )[..., 0]
        wrong = ~(inside & allowed) & ~self._done[:, None]
        if wrong.any():
            copy, agent = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"copy {copy}: action {actions[copy, agent]} is not available to agent {agent}"
            )

    def _ask_all(self, name: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """All workers work at once. The first failure closes them all and is raised."""
        try:
            for group, arg in zip(self._groups, args, strict=True):
                group.ask(name, *arg)
            return [group.answer() for group in self._groups]
        except BaseException:
            self.close()
            raise

    def _moment(self, args: Sequence[tuple[Any, ...]], name: str) -> TimeStep:
        parts: list[GameStep] = self._ask_all(name, args)
        now = _joined(parts, np.concatenate)
        self._avail, self._done = now.avail, np.logical_or(now.terminated, now.truncated)
        reward = self._tensor(now.reward, torch.float32)
        return TimeStep(
            obs=self._tensor(now.obs, self.spec.obs_dtype),
            state=self._tensor(now.state, torch.float32),
            avail=self._tensor(now.avail, torch.bool),
            reward=reward.sum(1) if self.spec.individual_rewards else reward,
            terminated=self._tensor(now.terminated, torch.bool),
            truncated=self._tensor(now.truncated, torch.bool),
            info={key: self._tensor(value, torch.float32) for key, value in now.info.items()},
            rewards=reward if self.spec.individual_rewards else None,
        )

    def _tensor(self, values: Any, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(values).to(self.device, dtype)

    def render(self, copy: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        return self._ask_one(copy, "render")

    def text(self, copy: int = 0) -> str:
        return self._ask_one(copy, "text")

    def _ask_one(self, copy: int, name: str) -> Any:
        group, k = self._places[copy]
        self._groups[group].ask(name, k)
        return self._groups[group].answer()

    def ask_games(self, name: str) -> list[Any]:
        """Calls a method of every game that takes nothing."""
        return [
            answer
            for answers in self._ask_all("each", [(name,)] * len(self._groups))
            for answer in answers
        ]

    def close(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            group.close()
