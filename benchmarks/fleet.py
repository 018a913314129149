"""Cost of stacked runs: updates and whole iterations of one run and of fleets, on this machine.

    python benchmarks/fleet.py [--config qmix] [--runs 4 16] [--compile] [--cuda] [--no-graphs]
        [--steps 15000]

For QMIX, also updates of a plain loop over agents. One thread. On the CPU, times are of this
process alone, so that a busy neighbour counts little; on a GPU, of the clock. The floor is the
floating-point operations of an update over the rate of a large matrix product.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eoi.build import make_worlds
from eoi.components.action_selection import masked_argmax
from eoi.components.batch import Batch
from eoi.config import loader
from eoi.learners.base import Progress
from eoi.learners.descent import Descent
from eoi.learners.stack import Stack, StackDescent
from eoi.run import Run, Trainer
from eoi.settings import Settings, configure
from eoi.utils.logging import RunLog
from eoi.utils.seeding import fold, root_key
from eoi.utils.trees import stacked


class PlainQMIX:
    """QMIX as it is usually written: a list of networks, a loop over agents."""

    def __init__(self, batch: Batch, hidden: int, embed: int, device: str):
        (_, self.agents, obs), state, actions = (
            batch.obs.shape,
            batch.state.shape[-1],
            batch.avail.shape[-1],
        )
        self.online, self.target = (
            nn.ModuleDict(self._networks(obs, state, actions, hidden, embed)).to(device)
            for _ in range(2)
        )
        self.target.load_state_dict(self.online.state_dict())
        self.optimiser = torch.optim.Adam(self.online.parameters(), lr=1e-4)
        self.embed = embed

    def _networks(
        self, obs: int, state: int, actions: int, hidden: int, embed: int
    ) -> dict[str, nn.Module]:
        def agent() -> nn.Module:
            return nn.Sequential(
                nn.Linear(obs, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, actions),
            )

        return {
            "agents": nn.ModuleList(agent() for _ in range(self.agents)),
            "w1": nn.Linear(state, self.agents * embed),
            "b1": nn.Linear(state, embed),
            "w2": nn.Linear(state, embed),
            "v": nn.Sequential(nn.Linear(state, embed), nn.ReLU(), nn.Linear(embed, 1)),
        }

    def _q(self, nets: nn.ModuleDict, obs: Tensor) -> Tensor:
        return torch.stack([net(obs[:, i]) for i, net in enumerate(nets["agents"])], 1)  # pyright: ignore[reportArgumentType]

    def _mix(self, nets: nn.ModuleDict, q: Tensor, state: Tensor) -> Tensor:
        w1 = nets["w1"](state).abs().view(-1, self.agents, self.embed)
        hidden = nn.functional.elu(torch.bmm(q[:, None], w1).squeeze(1) + nets["b1"](state))
        return (hidden * nets["w2"](state).abs()).sum(-1, keepdim=True) + nets["v"](state)

    def update(self, batch: Batch) -> None:
        taken = self._q(self.online, batch.obs).gather(-1, batch.actions[..., None]).squeeze(-1)
        with torch.no_grad():
            best = masked_argmax(self._q(self.online, batch.next_obs), batch.next_avail)
            following = self._q(self.target, batch.next_obs).gather(-1, best[..., None]).squeeze(-1)
            bootstrap = self._mix(self.target, following, batch.next_state)
            target = batch.reward[:, None] + 0.98 * (1 - batch.terminated[:, None]) * bootstrap
        loss = (self._mix(self.online, taken, batch.state) - target).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            for ours, theirs in zip(
                self.target.parameters(), self.online.parameters(), strict=True
            ):
                ours.lerp_(theirs, 0.01)


class Bench:
    def __init__(self, algorithm: str, cuda: bool, graphs: bool, steps: int):
        self.algorithm, self.cuda, self.graphs, self.steps = algorithm, cuda, graphs, steps
        self.device = "cuda" if cuda else "cpu"
        self.now = torch.tensor(0.0, device=self.device)

    def clock(self) -> float:
        if not self.cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def cost(self, work: Callable[[], object], times: int) -> float:
        """Milliseconds of one call, the best of three rounds."""
        work()
        rounds = []
        for _ in range(3):
            start = self.clock()
            for _ in range(times):
                work()
            rounds.append((self.clock() - start) / times * 1e3)
        return min(rounds)

    def settings(self, seed: int) -> Settings:
        updates = {
            "seed": seed,
            "save_model": False,
            "save_interval": 0,
            "t_max": self.steps,
            "use_cuda": self.cuda,
            "cuda_graphs": self.graphs,
            "learning_starts": 2000,
        }
        return configure(loader.load(self.algorithm, "pac_men", updates))

    def trainer(self, seeds: Sequence[int], compiled: bool = False) -> Trainer:
        """Runs without records."""
        every = [self.settings(seed) for seed in seeds]
        worlds = make_worlds(every[0], len(every))
        logs = [RunLog(lambda *_: None, "", self.steps) for _ in every]
        runs = [Run(each, worlds, log, runs=0) for each, log in zip(every, logs, strict=True)]
        return Trainer(runs, worlds, compiled=compiled)

    def batch(self, seed: int) -> Batch:
        """The first batch after some 160 episodes."""
        trainer = self.trainer([seed])
        (run,) = trainer.runs
        copies, device = run.cfg.batch_size_run, run.device
        for first in range(0, 160, copies):
            episodes = first + torch.arange(copies, device=device)
            keys = fold(root_key(seed, "benchmark", device), episodes)
            run.experience.insert(trainer.rollout.run(trainer.team, keys, self.now))
        at = Progress(160 * run.spec.episode_limit, 160, 0)
        draws = root_key(seed, "draws", device)
        return next(iter(run.experience.batches(draws, self.now, at)))

    def whole(self, seeds: Sequence[int], compiled: bool = False) -> float:
        """Seconds of `steps` environment steps of every run, tests and reports included."""
        trainer = self.trainer(seeds, compiled)
        start = self.clock()
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        return self.clock() - start


def updates(bench: Bench, fleets: list[int], compiled: bool) -> None:
    square = torch.randn(1024, 1024, device=bench.device)
    rate = 2 * 1024**3 / bench.cost(lambda: square @ square, 10) / 1e6  # GFLOP/s
    batch, trainer = bench.batch(1), bench.trainer([1])
    descent = Descent(trainer.runs[0].learner, bench.graphs)
    with FlopCounterMode(display=False) as counter:
        descent.update(batch, bench.now, 0)
    work = counter.get_total_flops() / 1e6  # MFLOP
    floor = work / rate  # ms
    case = f"pac_men, {bench.algorithm}, batches of {len(batch.obs)}"
    print(f"torch {torch.__version__}, {bench.device}, {case}")
    print(f"an update: {work:.0f} MFLOP in matrix products,", end=" ")
    print(f"floor {floor:.2f} ms at the {rate:.0f} GFLOP/s of large products\n")
    print("| what | ms an update and run | times the floor |\n|---|---|---|")

    def row(what: str, ms: float) -> None:
        print(f"| {what} | {ms:.2f} | {ms / floor:.1f} |", flush=True)

    if bench.algorithm == "qmix":
        plain = PlainQMIX(batch, 128, 32, bench.device)
        row("plain loop over agents", bench.cost(lambda: plain.update(batch), 40))
    row("one run", bench.cost(lambda: descent.update(batch, bench.now, 0), 40))
    for runs in fleets:
        together = stacked([bench.batch(seed) for seed in range(runs)])
        for ask in (False, True) if compiled else (False,):
            members = [bench.trainer([seed]).runs[0].learner for seed in range(runs)]
            stack = StackDescent(Stack(members, ask), bench.graphs)
            start = time.perf_counter()
            stack.update(together, bench.now, 0)
            seconds = time.perf_counter() - start
            name = f"fleet of {runs}" + (f", compiled in {seconds:.0f} s" if ask else "")

            def update(stack: StackDescent = stack, together: Batch = together) -> object:
                return stack.update(together, bench.now, 0)

            row(name, bench.cost(update, max(2, 40 // runs)) / runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="qmix", choices=loader.names("algs"))
    parser.add_argument("--runs", nargs="*", type=int, default=[4, 16])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU, without CUDA graphs")
    parser.add_argument("--steps", type=int, default=15000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(asked.config, asked.cuda, not asked.no_graphs, asked.steps)

    updates(bench, asked.runs, asked.compile)
    print(f"\n| {asked.steps} environment steps, everything | seconds a run | of one run |")
    print("|---|---|---|")
    alone = bench.whole([1])
    print(f"| one run | {alone:.2f} | 1 |", flush=True)
    for runs in asked.runs:
        seconds = bench.whole(range(runs), asked.compile) / runs
        print(f"| fleet of {runs} | {seconds:.2f} | {seconds / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
