"""Training on a GPU. CI has none: `bash run.sh pytest tests/test_cuda.py` where there is one."""

import pytest
import torch

from eoi.learners.graphs import LIMIT, WARM, Graphs
from eoi.utils.trees import map_tensors
from helpers import make_trainer, random_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def learned(*every):
    """Networks of each run after three rollouts and their updates, and the trainer."""
    trainer = make_trainer(*every)
    for _ in range(3):
        trainer.play()
        trainer.learn()
    networks = [{n: x.cpu() for n, x in run.learner.state_dict().items()} for run in trainer.runs]
    return networks, trainer


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(
    "algorithm", ["qmix", "eoi_qmix", "eoi_qmix_literal", "eoi_maac", "roma", "eoi_ippo", "hsd"]
)
def test_a_recorded_update_is_the_update(algorithm, runs, settings):
    both = []
    for graphs in (False, True):
        given = {"use_cuda": True, "cuda_graphs": graphs}
        every = [settings(algorithm, "pac_men", seed=seed, **given) for seed in range(runs)]
        networks, trainer = learned(*every)
        both.append(networks)
    assert trainer.at.updates > WARM + 1
    assert trainer.descent._descend._recorded
    assert trainer.descent.broken(0) == ([], 0)
    for plain, recorded in zip(*both, strict=True):
        for name, x in plain.items():
            torch.testing.assert_close(recorded[name], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["qmix", "ippo", "maac", "edti", "hc", "roma", "eoi_qmix"])
def test_a_gpu_learns_as_the_cpu_does(algorithm, settings):
    (there,), _ = learned(settings(algorithm, "pac_men", seed=1, use_cuda=True))
    (here,), _ = learned(settings(algorithm, "pac_men", seed=1))
    for name, x in here.items():
        torch.testing.assert_close(there[name], x, rtol=1e-2, atol=1e-3)


def test_episodes_of_several_lengths_are_learned_from_without_a_recording(settings):
    given = {"env_args": {"engine": "lite"}, "use_cuda": True, "buffer_size": 2000}
    _, trainer = learned(settings("qmix_rnn", "sc2", seed=1, **given))
    assert trainer.at.updates > WARM + 1 and not trainer.descent._descend._recorded


def test_shapes_that_come_late_are_not_recorded():
    total, expected = torch.zeros((), device="cuda"), 0.0

    def update(batch, t):
        total.add_(batch.reward.sum())
        return {"total": total.clone()}

    graphs, now = Graphs(update), torch.zeros((), device="cuda")
    for count in range(1, LIMIT + 3):
        for _ in range(WARM + 2):
            batch = map_tensors(torch.Tensor.cuda, random_batch(count=count, seed=count))
            expected += float(batch.reward.sum())
            found = float(graphs(batch, now)["total"])
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert len(graphs._recorded) == LIMIT
