"""What runs a batch: processes of this machine, a Ray cluster, or an array job of Slurm. True comes back when the user stopped it."""

import collections
import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batches.jobs import ROOT, Job
from batches.report import Screen
from utils.errors import UserError
from utils.script import write_text

_GLANCE = 0.2  # seconds; Ray's cancel interrupts Python, but no system call
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True)
class Pace:
    jobs: int  # at once
    mongo: str
    address: str  # of a cluster
    argv: list[str]  # the batch's own command line


class Process:
    """One run in a session of its own, so that a Ctrl-C reaches it through the batch alone."""

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
        """Until it ends; its exit status."""
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


def _beside(work: Callable[[], None]) -> threading.Event:
    """Does it in a thread; set at its end. (Thread.join, once interrupted, takes a living thread for ended.)"""
    over = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            over.set()

    threading.Thread(target=run).start()
    return over


def _wait(for_all: Sequence[threading.Event], on_interrupt: Callable[[], None], glance: float | None = None) -> None:
    """`glance`: seconds between two looks, where an interrupt does not end a system call."""
    while not all(over.is_set() for over in for_all):
        try:
            for over in for_all:
                over.wait(glance)
        except KeyboardInterrupt:
            on_interrupt()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Also where SIGINT is ignored, as in the background of a script."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell_end(job: Job, status: int, last: str, screen: Screen) -> None:
    job.remark = "" if status == 0 else last[:200]
    screen.say(job, {0: "finished", 130: "stopped; the next call continues it"}.get(status, f"failed ({status}): {job.remark}"))


class Local:
    """A few threads, each of which starts one process after the other."""

    def __init__(self, jobs: Sequence[Job], pace: Pace, screen: Screen):
        self._waiting, self._pace, self._screen = collections.deque(jobs), pace, screen
        self._live: set[Process] = set()
        self._lock, self._stopping = threading.Lock(), False

    def run(self) -> bool:
        with _sigterm_as_ctrl_c():
            _wait([_beside(self._work) for _ in range(min(self._pace.jobs, len(self._waiting)))], self._stop)
        return self._stopping

    def _stop(self) -> None:
        """Asks all runs to end where their state is whole; called again, ends them."""
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

    def _begin(self) -> tuple[Job, Process] | None:
        with self._lock:
            if self._stopping or not self._waiting:
                return None
            job = self._waiting.popleft()
            process = Process(job.command(self._pace.mongo), lambda line: self._screen.progress(job, line))
            self._live.add(process)
        return job, process


def local(jobs: Sequence[Job], pace: Pace, screen: Screen) -> bool:
    return Local(jobs, pace, screen).run()


def _remote(command: list[str]) -> tuple[int, str]:
    """On a worker of the cluster, which sees this folder. Cancelled, it asks the run to end where its state is whole; again, it ends it."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it, and the run would inherit that
    process, status = Process(command, lambda line: None), []
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    signals = iter([signal.SIGINT])
    over = _beside(lambda: status.append(process.follow()))
    _wait([over], lambda: process.stop(next(signals, signal.SIGKILL)), _GLANCE)
    return status[0], process.last


def on_ray(jobs: Sequence[Job], pace: Pace, screen: Screen) -> bool:
    """One task a run, each with one processor. The cluster's machines have to share this folder."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("--on ray: Ray is not installed; `.venv/bin/pip install ray`, or leave --on out") from None
    own = not ray.is_initialized()
    if own:
        paths = {"env_vars": {"PYTHONPATH": str(ROOT / "src")}}
        where: dict[str, Any] = {"address": pace.address} if pace.address else {"num_cpus": pace.jobs, "include_dashboard": False}
        ray.init(**where, runtime_env=paths, log_to_driver=False, configure_logging=False)
    try:
        with _sigterm_as_ctrl_c():
            return _ray_tasks(ray, jobs, pace, screen)
    finally:
        if own:
            ray.shutdown()


def _ray_tasks(ray: Any, jobs: Sequence[Job], pace: Pace, screen: Screen) -> bool:
    task = ray.remote(num_cpus=1, max_retries=0)(_remote)
    pending = {task.remote(job.command(pace.mongo)): job for job in jobs}
    stopped = False
    while pending:
        try:
            done, _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done[0])
            try:
                status, last = ray.get(done[0])
                tell_end(job, status, last, screen)
            except ray.exceptions.TaskCancelledError:  # before it began
                continue
            except ray.exceptions.RayError as error:
                tell_end(job, 1, f"its worker died ({type(error).__name__})", screen)
        except KeyboardInterrupt:
            stopped = True
            print(f"stopping {len(pending)} runs; Ctrl-C again kills them", flush=True)
            for reference in pending:
                ray.cancel(reference)
    return stopped


def slurm(jobs: Sequence[Job], pace: Pace, screen: Screen) -> bool:
    """Writes an array job, one task a run; each finds out by itself whether its run is finished or was cut."""
    words = _without_engine(pace.argv)
    at = words.index("with") if "with" in words else len(words)
    call = shlex.join([*words[:at], "--only"]), shlex.join(words[at:])
    path = ROOT / "results" / "batch.sbatch"
    numbers = ",".join(str(screen.number(job)) for job in jobs)
    text = f"""#!/bin/bash
#SBATCH --job-name=eoi
#SBATCH --array={numbers}%{pace.jobs}
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:INT@120
#SBATCH --requeue
#SBATCH --output=results/slurm-%A_%a.out
cd {shlex.quote(str(ROOT))} || exit 1
export OMP_NUM_THREADS=1
exec bash run.sh batch {call[0]} "$SLURM_ARRAY_TASK_ID" -j 1 {call[1]}
"""
    write_text(path, text)
    print(f"{path}: {len(jobs)} runs; start it with\n    sbatch {shlex.quote(str(path))}")
    return False


def _without_engine(argv: Sequence[str]) -> list[str]:
    """The call as a task makes it: on its own machine."""
    words = iter(argv)
    kept = []
    for word in words:
        if word in ("--on", "-j", "--jobs"):
            next(words, None)
        elif not word.startswith(("--on=", "-j", "--jobs=")):
            kept.append(word)
    return kept


ENGINES: dict[str, Callable[[Sequence[Job], Pace, Screen], bool]] = {"local": local, "ray": on_ray, "slurm": slurm}
