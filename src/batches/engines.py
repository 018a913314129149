"""Engines that run a batch: processes on this machine, a Ray cluster, an array job of Slurm.

Each returns whether the user stopped the batch.
"""

import collections
import contextlib
import itertools
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from eoi.batches.report import Screen
from eoi.batches.stacks import Task
from eoi.utils.errors import UserError
from eoi.utils.places import IS_CHECKOUT, PACKAGE, PIP, ROOT
from eoi.utils.script import write_text

_GLANCE = 0.2  # seconds between two looks; Ray's cancel does not end a system call
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True)
class Pace:
    jobs: int  # at once
    mongo: str
    address: str  # of a cluster
    argv: list[str]  # the batch's own command line
    program: str = "batch"  # the command that it belongs to


class Process:
    """One run in its own session, so that Ctrl-C reaches it through the batch alone."""

    def __init__(self, command: Sequence[str], tell: Callable[[str], None]):
        self.last = ""
        self._tell = tell
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | _ONE_THREAD,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def follow(self) -> int:
        """Waits until the process ends. Returns its exit status."""
        with self._process as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    self.last = line.strip()
                    self._tell(self.last)
        return process.returncode

    def stop(self, by: int = signal.SIGINT) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(by)


News = queue.SimpleQueue[str]  # "over": a thread has ended; "stop": the user stops the batch


@contextlib.contextmanager
def _stops_are_news(*signals: int) -> Iterator[News]:
    """Turns these signals into "stop", also where SIGINT is ignored, as in a script's background.

    A KeyboardInterrupt could arrive in the middle of stopping.
    """
    news: News = queue.SimpleQueue()
    before = {number: signal.signal(number, lambda *_: news.put("stop")) for number in signals}
    try:
        yield news
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _beside(work: Callable[[], None], news: News) -> None:
    """Works in a thread, and reports its end."""

    def run() -> None:
        try:
            work()
        finally:
            news.put("over")

    threading.Thread(target=run).start()


def _hear(news: News, threads: int, stop: Callable[[], None]) -> None:
    """Waits until that many threads have ended."""
    while threads:
        with contextlib.suppress(queue.Empty):
            if news.get(timeout=_GLANCE) == "over":
                threads -= 1
            else:
                stop()


# Exit statuses of a run that was interrupted: in training, and before it, while importing
_STOPPED = (130, -signal.SIGINT)


def tell_end(job: Task, status: int, last: str, screen: Screen) -> None:
    job.remark = "" if status == 0 else last[:200]
    words = "finished" if status == 0 else f"failed ({status}): {job.remark}"
    if status in _STOPPED:
        words = "stopped; the next call continues it"
    screen.say(job, words)


class Local:
    """Some threads, each of which starts one process after the other."""

    def __init__(self, jobs: Sequence[Task], pace: Pace, screen: Screen):
        self._waiting, self._pace, self._screen = collections.deque(jobs), pace, screen
        self._live: set[Process] = set()
        self._lock, self._stopping = threading.Lock(), False

    def run(self) -> bool:
        threads = min(self._pace.jobs, len(self._waiting))
        with _stops_are_news(signal.SIGINT, signal.SIGTERM) as news:
            for _ in range(threads):
                _beside(self._work, news)
            _hear(news, threads, self._stop)
        return self._stopping

    def _stop(self) -> None:
        """Asks all runs to stop after a checkpoint; called again, kills them."""
        with self._lock:
            by = signal.SIGKILL if self._stopping else signal.SIGINT
            self._stopping = True
            live = list(self._live)
        print(f"stopping {len(live)} runs; Ctrl-C again kills them", flush=True)
        for process in live:
            process.stop(by)

    def _work(self) -> None:
        while (begun := self._begin()) is not None:
            job, process = begun
            status = process.follow()
            with self._lock:
                self._live.discard(process)
            tell_end(job, status, process.last, self._screen)

    def _begin(self) -> tuple[Task, Process] | None:
        with self._lock:
            if self._stopping or not self._waiting:
                return None
            job = self._waiting.popleft()
            process = Process(
                job.command(self._pace.mongo), lambda line: self._screen.progress(job, line)
            )
            self._live.add(process)
        return job, process


def local(jobs: Sequence[Task], pace: Pace, screen: Screen) -> bool:
    return Local(jobs, pace, screen).run()


def _remote(command: list[str]) -> tuple[int, str]:
    """Exit status and last line of a run on a worker of the cluster.

    Cancelled, it asks the run to stop after a checkpoint; cancelled again, it kills the run.
    """
    # Ray blocks SIGINT, and the run would inherit that.
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    process, status = Process(command, lambda line: None), []
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    by = itertools.chain([signal.SIGINT], itertools.repeat(signal.SIGKILL))
    with _stops_are_news(signal.SIGINT) as news:
        _beside(lambda: status.append(process.follow()), news)
        _hear(news, 1, lambda: process.stop(next(by)))
    return status[0], process.last


def on_ray(jobs: Sequence[Task], pace: Pace, screen: Screen) -> bool:
    """One task for each run, on one processor. The cluster's machines have to share this folder."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"--on ray: Ray is not installed; `{PIP} ray`, or leave --on out") from None
    own = not ray.is_initialized()
    if own:
        paths = {"env_vars": {"PYTHONPATH": str(PACKAGE.parent)}}
        where = (
            {"address": pace.address}
            if pace.address
            else {"num_cpus": pace.jobs, "include_dashboard": False}
        )
        ray.init(**where, runtime_env=paths, log_to_driver=False, configure_logging=False)
    try:
        with _stops_are_news(signal.SIGINT, signal.SIGTERM) as news:
            task = ray.remote(num_cpus=1, max_retries=0)(_remote)
            return _ray_tasks(
                ray, {task.remote(job.command(pace.mongo)): job for job in jobs}, news, screen
            )
    finally:
        if own:
            ray.shutdown()


def _ray_tasks(ray: ModuleType, pending: dict[object, Task], news: News, screen: Screen) -> bool:
    """Waits until all tasks have ended. Returns whether the user stopped them."""
    stopped = False
    while pending:
        done, _ = ray.wait(list(pending), num_returns=1, timeout=_GLANCE)
        for reference in done:
            job = pending.pop(reference)
            try:
                status, last = ray.get(reference)
                tell_end(job, status, last, screen)
            except ray.exceptions.TaskCancelledError:  # before it began
                continue
            except ray.exceptions.RayError as error:
                tell_end(job, 1, f"its worker died ({type(error).__name__})", screen)
        while not news.empty():
            stopped = bool(news.get())
            print(f"stopping {len(pending)} runs; Ctrl-C again kills them", flush=True)
            for reference in pending:
                ray.cancel(reference)
    return stopped


def slurm(jobs: Sequence[Task], pace: Pace, screen: Screen) -> bool:
    """Writes an array job with one task for each run.

    A task looks up whether its run is finished, was interrupted, or is new.
    """
    words = _without_engine(pace.argv)
    at = words.index("with") if "with" in words else len(words)
    call = shlex.join([*words[:at], "--only"]), shlex.join(words[at:])
    path = ROOT / "results" / f"{pace.program}.sbatch"
    start = f"bash {shlex.quote(str(ROOT / 'run.sh'))}" if IS_CHECKOUT else "eoi"
    here = pathlib.Path.cwd()  # files that the call names may be relative to it
    numbers = ",".join(str(screen.number(job)) for job in jobs)
    text = f"""#!/bin/bash
#SBATCH --job-name=eoi
#SBATCH --array={numbers}%{pace.jobs}
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:INT@120
#SBATCH --requeue
#SBATCH --output={shlex.quote(f"{ROOT}/results/slurm-%A_%a.out")}
cd {shlex.quote(str(here))} || exit 1
export OMP_NUM_THREADS=1
exec {start} {pace.program} {call[0]} "$SLURM_ARRAY_TASK_ID" -j 1 {call[1]}
"""
    write_text(path, text)
    print(f"{path}: {len(jobs)} runs; start it with\n    sbatch {shlex.quote(str(path))}")
    return False


def refuse_one_of_an_array(engine: str, only: int | None) -> None:
    """Raises UserError."""
    if only is not None and engine == "slurm":
        raise UserError("--only: is for the tasks of an array job; leave it out with --on slurm")


def _without_engine(argv: Sequence[str]) -> list[str]:
    """The command line of a task, which runs on its own machine."""
    words = iter(argv)
    kept = []
    for word in words:
        if word in ("--on", "-j", "--jobs"):
            next(words, None)
        elif not word.startswith(("--on=", "-j", "--jobs=")):
            kept.append(word)
    return kept


ENGINES: dict[str, Callable[[Sequence[Task], Pace, Screen], bool]] = {
    "local": local,
    "ray": on_ray,
    "slurm": slurm,
}
