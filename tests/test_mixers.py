"""QMIX and VDN: values, monotonicity, parameter counts."""

import itertools

import pytest
import torch
from torch import nn

from eoi.envs.base import EnvSpec
from eoi.modules.mixers import MixerConfig, NoMixer, QMixer, VDNMixer
from helpers import SPEC


def config(**changes) -> MixerConfig:
    values = {
        "mixer": "qmix",
        "mixing_embed_dim": 32,
        "mixing_activation": "elu",
        "mixing_bias": "mlp",
        "hypernet_layers": 1,
        "hypernet_embed": 64,
    }
    return MixerConfig(**{**values, **changes})


def spec(n_agents: int, state_size: int) -> EnvSpec:
    return EnvSpec(n_agents, 2, 3, state_size, 5, True, torch.float32, ())


@pytest.mark.parametrize(("layers", "count"), [(1, 11457), (2, 20225)])
def test_parameter_count(layers, count):
    assert (
        sum(p.numel() for p in QMixer(spec(4, 50), config(hypernet_layers=layers)).parameters())
        == count
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_hand_worked_values(sign):
    """n = 2, E = 1, forced W1 = (1, 2), b1 = 0, w2 = 3, v = 0.5."""
    mixer = QMixer(spec(2, 1), config(mixing_embed_dim=1, mixing_bias="linear"))
    nn.init.zeros_(mixer.first.weight)
    with torch.no_grad():
        mixer.first.bias.copy_(
            torch.tensor([sign * 1.0, sign * 2.0, sign * 3.0, 0.0, 0.5])
        )  # W1, w2, b1, v
    q = torch.tensor([[1.0, 1.0], [-1.0, 0.0]])
    torch.testing.assert_close(mixer(q, torch.zeros(2, 1)), torch.tensor([[9.5], [-1.3963617]]))


@pytest.mark.parametrize(
    "changes", [{}, {"hypernet_layers": 2}, {"mixing_activation": "relu", "mixing_bias": "linear"}]
)
def test_monotone_in_every_agent(changes):
    torch.manual_seed(1)
    mixer, q, state = (
        QMixer(SPEC, config(**changes)),
        torch.randn(200, 3, requires_grad=True),
        3 * torch.randn(200, 5),
    )
    (slope,) = torch.autograd.grad(mixer(q, state).sum(), q)
    assert slope.min() >= 0
    assert slope.max() > 0


def test_the_joint_argmax_is_the_agents_own():
    torch.manual_seed(2)
    mixer, values = QMixer(spec(2, 5), config()), torch.randn(2, 3)
    state = torch.randn(1, 5)
    joint = {
        (a, b): mixer(torch.stack([values[0, a], values[1, b]])[None], state).item()
        for a, b in itertools.product(range(3), range(3))
    }
    assert max(joint, key=lambda pair: joint[pair]) == tuple(values.argmax(1).tolist())


def test_vdn_is_a_sum_and_no_mixer_is_nothing():
    q, state = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(1, 5)
    assert VDNMixer(SPEC, config())(q, state).tolist() == [[10.0]]
    assert torch.equal(NoMixer(SPEC, config())(q, state), q)
