"""Games in plain Python, one copy at a time, as a batch of copies behind the common interface.

The copies run in this process or in worker processes. If a worker fails, the run ends with the
worker's traceback. If a worker dies, the run ends with its exit status. No worker outlives its
parent process.

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
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from eoi.envs.base import EnvSpec, TimeStep
from eoi.utils.errors import Failure, UserError
from eoi.utils.shapes import Int, UInt8

_PATIENCE = 2.0  # seconds that a worker may take to end by itself
# Both start methods are safe beside threads and CUDA; forkserver starts faster.
_HAS_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT = (
    multiprocessing.get_context("forkserver")
    if _HAS_FORKSERVER
    else multiprocessing.get_context("spawn")
)


class GameStep(NamedTuple):
    """One time step of one game. For a group of copies, each field has a leading axis K."""

    obs: np.ndarray  # [A, O], spec.obs_dtype
    state: np.ndarray  # [S] float32
    avail: np.ndarray  # [A, U] bool, at least one action for each agent
    # The team's, or [A] each agent's own if spec.individual_rewards
    reward: float | np.ndarray
    terminated: bool | np.ndarray
    truncated: bool | np.ndarray
    info: Mapping[str, float | np.ndarray]  # numbers or arrays [A], the same keys at every step


@runtime_checkable
class Game(Protocol):
    """A single copy. The seed of `reset` is its only source of randomness.

    An exception ends the run: UserError and Failure with one line, all others with a traceback.
    """

    spec: EnvSpec

    def reset(self, seed: int) -> GameStep: ...
    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep: ...
    def render(self) -> UInt8[np.ndarray, "height width 3"]: ...
    def text(self) -> str: ...
    def close(self) -> None: ...


class WorkerError(RuntimeError):
    """A game failed in its worker. The message contains the worker's traceback."""


class _Copies:
    """K copies of a game in the current process. A finished copy repeats its last step."""

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

    def each(self, name: str) -> list[object]:
        """Results of the method `name` of every game."""
        return [getattr(game, name)() for game in self.games]

    def close(self) -> None:
        for game in self.games:
            game.close()


def _stacked(steps: Sequence[GameStep]) -> GameStep:
    return _joined(steps, np.stack)


def _joined(steps: Sequence[GameStep], join: Callable[[list[np.ndarray]], np.ndarray]) -> GameStep:
    """One step whose fields are those of `steps`, joined field by field."""
    info = {name: join([np.asarray(step.info[name]) for step in steps]) for name in steps[0].info}
    fields = {
        name: join([np.asarray(getattr(step, name)) for step in steps])
        for name in GameStep._fields
        if name != "info"
    }
    return GameStep(**fields, info=info)


class _InProcess:
    """Copies in this process, with the interface of `_Worker`."""

    def __init__(self, make: Callable[[], Game], count: int):
        self._copies = _Copies(make, count)

    def ask(self, name: str, *args: object) -> None:
        self._answer = getattr(self._copies, name)(*args)

    def answer(self) -> Any:
        return self._answer

    def close(self) -> None:
        self._copies.close()


class _Worker:
    """Copies in a process of their own, at the other end of a pipe."""

    def __init__(self, make: Callable[[], Game], count: int):
        if _HAS_FORKSERVER:
            # Imported once, not in each worker; torch even if this module is not found
            _CONTEXT.set_forkserver_preload(["torch", __name__])
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(theirs, make, count), daemon=True)
        self._process.start()
        theirs.close()
        # Also called when this process ends
        self.close = weakref.finalize(self, _end, self._process, self._pipe)

    def ask(self, name: str, *args: object) -> None:
        """Call the method `name` of the copies; `answer` waits for the result."""
        with contextlib.suppress(OSError):  # `answer` reports a dead worker
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


def _end(process: BaseProcess, pipe: connection.Connection) -> None:
    """Ask the process to stop, then kill it."""
    with contextlib.suppress(OSError):
        pipe.send(None)
    pipe.close()
    process.join(_PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join(_PATIENCE)


def _work(pipe: connection.Connection, make: Callable[[], Game], count: int) -> None:
    """Main function of a worker: build the copies, then answer requests until the pipe closes."""
    # Ctrl-C reaches the whole process group, and a cluster's SIGTERM all processes of a job; only
    # the parent reacts to them. SIGTERM gets a handler, because a game would inherit SIG_IGN, and
    # could not be ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    copies = None
    try:
        copies = _Copies(make, count)
        while (request := _next(pipe)) is not None:
            name, args = request
            pipe.send((getattr(copies, name)(*args), None))
    except (UserError, Failure) as error:
        _report(pipe, error)
    except Exception:
        _report(pipe, traceback.format_exc())
    finally:
        with contextlib.suppress(Exception):
            if copies is not None:
                copies.close()


def _exit_after(parent: BaseProcess) -> None:
    """End this process after its parent has ended, even in the middle of a game's step."""
    parent.join()
    time.sleep(_PATIENCE)  # an idle worker sees the closed pipe and closes its games meanwhile
    os._exit(1)


def _next(pipe: connection.Connection) -> tuple[str, tuple[object, ...]] | None:
    """The next request: a method's name and its arguments. None: the pipe is closed."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _report(pipe: connection.Connection, failure: Exception | str) -> None:
    with contextlib.suppress(OSError):
        pipe.send((None, failure))


def in_workers(workers: int, n_envs: int) -> list[int]:
    """Number of copies of each worker; the numbers differ by at most 1."""
    workers = min(workers, n_envs)
    return [n_envs // workers + (k < n_envs % workers) for k in range(workers)]


class GameEnv:
    """N copies of a game as one environment.

    `make`: builds one copy; picklable if there are workers. `workers`: processes; 0 for none.
    """

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
        self._groups: list[_InProcess | _Worker] = []
        try:
            for size in sizes:
                self._groups.append((_Worker if workers else _InProcess)(make, size))
            self._ends = np.cumsum(sizes)[:-1]  # first copy of each group but the first
            self._places = [(group, k) for group, size in enumerate(sizes) for k in range(size)]
            self.spec: EnvSpec = self._ask_all("spec", [()] * len(sizes))[0]
        except BaseException:
            self.close()
            raise

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        seeds = (keys.cpu().numpy() & (2**31 - 1)).tolist()  # many games require a 32-bit seed
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
        valid = actions.clip(0, self.spec.n_actions - 1)
        allowed = np.take_along_axis(self._avail, valid[..., None], 2)[..., 0]
        wrong = ~(inside & allowed) & ~self._done[:, None]
        if wrong.any():
            copy, agent = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"copy {copy}: action {actions[copy, agent]} is not available to agent {agent}"
            )

    def _ask_all(self, name: str, args: Sequence[tuple[object, ...]]) -> list[Any]:
        """Answers of all groups, which work in parallel. A failure closes all of them."""
        try:
            for group, arg in zip(self._groups, args, strict=True):
                group.ask(name, *arg)
            return [group.answer() for group in self._groups]
        except BaseException:
            self.close()
            raise

    def _moment(self, args: Sequence[tuple[object, ...]], name: str) -> TimeStep:
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

    def _tensor(self, values: np.ndarray | float, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.asarray(values)).to(self.device, dtype)

    def render(self, copy: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        return self._ask_one(copy, "render")

    def text(self, copy: int = 0) -> str:
        return self._ask_one(copy, "text")

    def _ask_one(self, copy: int, name: Literal["render", "text"]) -> Any:
        group, k = self._places[copy]
        self._groups[group].ask(name, k)
        return self._groups[group].answer()

    def ask_games(self, name: str) -> list[Any]:
        """Results of the method `name`, without arguments, of every game."""
        answers = self._ask_all("each", [(name,)] * len(self._groups))
        return list(itertools.chain.from_iterable(answers))

    def close(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            group.close()
