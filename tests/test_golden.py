"""Golden runs: weights after 12 updates, and every test metric, of short runs with a fixed seed.

A refactoring leaves all of them as they are. On the machine that wrote them, weights are compared
bit for bit; elsewhere to a relative 1e-3, since another processor adds up in another order. A
change that is meant to alter behaviour rewrites the file, in a commit of its own:

    PYTHONPATH=. python tests/test_golden.py [CASE ...]
"""

import hashlib
import json
import pathlib
import sys
import tempfile
from typing import Any

import pytest
import torch

from eoi.config import loader
from eoi.main import main

FILE = pathlib.Path(__file__).parent / "golden.json"
SHORT = "seed=3 hidden_dim=8 batch_size=16 batch_size_run=2 buffer_size=400 learning_starts=0"
SHORT += (
    " t_max=120 test_nepisode=2 test_interval=60 log_interval=60 update_interval=10 save_interval=0"
)
GAME = f"{SHORT} t_max=24 update_interval=2 test_interval=24 log_interval=24"

_RNN = ("qmix_rnn", "eoi_qmix_rnn", "roma_rnn")
CASES = {algorithm: ("pac_men", algorithm, SHORT) for algorithm in loader.names("algs")}
CASES |= {
    f"8m {name}": ("sc2", name, f"{GAME} env_args.engine=lite buffer_size=2000")
    for name in ("qmix", "eoi_qmix", "maac", "ippo")
}
CASES |= {
    f"pettingzoo {name}": ("pettingzoo", name, f"{GAME} env_args.workers=0")
    for name in ("qmix", "eoi_qmix", "ippo")
}
CASES |= {
    "lfo": ("pac_men", "qmix", f"{SHORT} lfo.omega=0.5"),
    "lfo maac": ("pac_men", "eoi_maac", f"{SHORT} lfo.omega=0.5"),
    "stored": (
        "pac_men",
        "eoi_qmix_literal",
        f"{SHORT} eoi.q_source=stored eoi.q_input=normalised eoi.project=True",
    ),
    "individual": ("windy_maze", "iql", f"{SHORT} eoi.form=reward eoi.intrinsic=centred"),
    # Of agents with memory a batch is whole episodes, of which such a run has four.
    **{
        name: ("pac_men", name, f"{SHORT} batch_size=2".replace(" update_interval=10", ""))
        for name in _RNN
    },
    # Both stages of HC, and updates of all parts of HSD.
    "hc": ("pac_men", "hc", f"{SHORT} skill_episodes=2 rollout_episodes=2 epochs=2"),
    "hsd": ("pac_men", "hsd", f"{SHORT} batch_size=2 decoder_batch=24 task_weight_episodes=1"),
}


def run(case: str, results: pathlib.Path) -> dict[str, Any]:
    """The digest of a short run."""
    env, algorithm, words = CASES[case]
    if (
        loader.load(algorithm, env, {})["learner"] == "ppo"
    ):  # two rollouts, two epochs of three minibatches
        words = " ".join(
            [
                "epochs=2",
                *(
                    w
                    for w in words.split()
                    if not w.startswith(("update_interval", "learning_starts"))
                ),
            ]
        )
    argv = [
        f"--config={algorithm}",
        f"--env-config={env}",
        "with",
        *words.split(),
        f"local_results_path={results}",
    ]
    assert main(argv) == 0
    folder = results / "sacred" / "1"
    saved = torch.load(folder / "models" / "last.pt", weights_only=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    return digest(saved["learner"]) | {
        "tests": {k: v["values"] for k, v in sorted(metrics.items()) if k.startswith("test_")}
    }


def digest(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Independent of the names of parameters, and of their order."""
    hashed = sorted(
        hashlib.sha256(repr(tuple(x.shape)).encode() + x.numpy().tobytes()).hexdigest()
        for x in weights.values()
    )
    moments = sorted(
        [list(x.shape), float(x.double().sum()), float(x.double().abs().sum())]
        for x in weights.values()
    )
    return {"sha": hashlib.sha256("".join(hashed).encode()).hexdigest()[:16], "weights": moments}


def machine() -> str:
    """Properties of this machine that decide the last bits of a sum."""
    cpu = pathlib.Path("/proc/cpuinfo")
    model = (
        next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "")
        if cpu.exists()
        else ""
    )
    capability = torch.backends.cpu.get_cpu_capability()
    processor = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"torch {torch.__version__} {capability} {processor}"


@pytest.mark.parametrize("case", CASES)
def test_a_short_run_is_what_it_was(case, tmp_path):
    golden = json.loads(FILE.read_text())
    before, now = golden["runs"][case], run(case, tmp_path)
    if golden["machine"] == machine():
        assert now["sha"] == before["sha"]
    assert [shape for shape, *_ in now["weights"]] == [shape for shape, *_ in before["weights"]]
    for (_, *ours), (_, *theirs) in zip(now["weights"], before["weights"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)
    assert now["tests"].keys() == before["tests"].keys()
    for name, values in before["tests"].items():
        assert now["tests"][name][0] == pytest.approx(values[0], rel=1e-3, abs=1e-6), (
            name
        )  # of the networks before any update
    if golden["machine"] == machine():
        assert now["tests"] == before["tests"]


if __name__ == "__main__":
    found = {}
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = run(name, pathlib.Path(folder))
    kept = json.loads(FILE.read_text())["runs"] if FILE.exists() else {}
    FILE.write_text(
        json.dumps(
            {
                "machine": machine(),
                "runs": {name: found.get(name, kept.get(name)) for name in CASES},
            },
            indent=1,
        )
        + "\n"
    )
