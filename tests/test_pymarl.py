"""Equality with PyMARL's QMIX: agents, mixer, loss, clipping and RMSprop step.

The numbers in pymarl.json were computed by PyMARL's own modules (oxwhirl/pymarl, c971afd) from the
same weights and episodes, which are sine waves.
"""

import json
import math
import pathlib
from dataclasses import replace

import pytest
import torch

from eoi.components.batch import Batch, last_of
from eoi.controllers.controller import Controller
from eoi.learners.descent import Descent
from eoi.learners.q_learner import QConfig, QLearner
from helpers import SPEC, tiny

NUMBERS = json.loads((pathlib.Path(__file__).parent / "pymarl.json").read_text())
EPISODES, STEPS, AGENTS, OBS, ACTIONS, STATE = 3, 4, 2, 3, 4, 5
LENGTHS = (4, 2, 3)  # the first two episodes end by the task, the third by its time


def wave(shape, phase):
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (0.5 * torch.sin(0.7 * steps + phase)).reshape(shape).float()


def fill(controller, mixer, first):
    """Weights in PyMARL's order: fc1, rnn (weights, then biases), fc2, and the hypernetworks."""
    agent, phase = controller.agents, first
    order = [
        (agent.encode, "weight"),
        (agent.encode, "bias"),
        (agent.input_gates, "weight"),
        (agent.hidden_gates, "weight"),
        (agent.input_gates, "bias"),
        (agent.hidden_gates, "bias"),
        (agent.head, "weight"),
        (agent.head, "bias"),
    ]
    for layer, name in order:
        parameter = getattr(layer, name)
        shape = parameter.shape[1:] if name == "weight" else parameter.shape[1:2]
        parameter.data = wave(shape, phase).view_as(parameter)
        phase += 1
    w1, w2, b1, v = mixer.sizes
    parts = {}
    for name, rows, second in (
        ("w1", w1, mixer.w1[1]),
        ("w2", w2, mixer.w2[1]),
        ("b1", b1, None),
        ("v", v, mixer.v[1]),
    ):
        parts[name] = wave((rows, STATE), phase), wave((rows,), phase + 1)
        phase += 2
        if second is not None:
            second.weight.data = wave(second.weight.shape, phase)
            second.bias.data = wave(second.bias.shape, phase + 1)
            phase += 2
    order = ("w1", "w2", "b1", "v")  # of the rows in the product that all hypernetworks start from
    mixer.first.weight.data = torch.cat([parts[name][0] for name in order])
    mixer.first.bias.data = torch.cat([parts[name][1] for name in order])
    return phase


@pytest.fixture
def learner():
    settings = tiny("qmix_rnn", hidden_dim=6, mixing_embed_dim=4, hypernet_embed=7)
    spec = replace(
        SPEC, n_agents=AGENTS, n_actions=ACTIONS, obs_size=OBS, state_size=STATE, episode_limit=4
    )
    assert isinstance(settings.learner, QConfig)
    made = QLearner(spec, settings.learner, Controller(spec, settings.controller))
    following = fill(made.controller, made.mixer, 0)
    fill(made.target_controller, made.target_mixer, following)
    return made


def episodes():
    shape = (EPISODES, STEPS + 1)
    obs, state = wave((*shape, AGENTS, OBS), 100), wave((*shape, STATE), 101)
    reward = wave((*shape, 1), 102)[:, :-1, 0]
    count = math.prod(shape) * AGENTS
    actions = ((torch.arange(count) * 5) % ACTIONS).reshape(*shape, AGENTS)
    avail = torch.ones(count, ACTIONS, dtype=torch.bool)
    places = torch.arange(count)
    avail[places, (actions.flatten() + 1 + places % 3) % ACTIONS] = False
    avail = avail.view(*shape, AGENTS, ACTIONS)
    terminated = torch.zeros(EPISODES, STEPS)
    terminated[0, 3] = terminated[1, 1] = 1
    valid = (torch.arange(STEPS) < torch.tensor(LENGTHS)[:, None]).float()
    taken = actions[:, :-1]
    return Batch(
        obs=obs[:, :-1],
        state=state[:, :-1],
        avail=avail[:, :-1],
        actions=taken,
        reward=reward,
        terminated=terminated,
        next_obs=obs[:, 1:],
        next_state=state[:, 1:],
        next_avail=avail[:, 1:],
        valid=valid,
        last_actions=last_of(taken),
    )


def close(numbers):
    return pytest.approx(numbers, rel=2e-5, abs=1e-6)


def test_mixer(learner):
    mixed = learner.mixer(wave((5, AGENTS), 200), wave((5, STATE), 201))
    assert mixed.flatten().tolist() == close(NUMBERS["mixed"])


def test_agent(learner):
    batch = episodes()
    carry = {"hidden": wave((EPISODES, AGENTS, 6), 300), "last_action": batch.actions[:, 0]}
    q, _ = learner.controller.step(batch.obs[:, 1], carry)
    assert q.flatten().tolist() == close(NUMBERS["agent_q"])


def test_two_updates(learner):
    descent, batch = Descent(learner), episodes()
    for number in range(2):
        stats = descent.update(batch, torch.tensor(0.0), number)
        expected = NUMBERS[f"update{number}"]
        assert float(stats["loss"]) == close(expected["loss"])
        assert float(stats["td_error_abs"]) == close(expected["td_error_abs"])
    every = [x.detach().double() for x in in_their_order(learner)]
    sums = [(x.sum(), x.abs().sum()) for x in every]
    assert [float(x) for pair in sums for x in pair] == close(NUMBERS["after"])


def in_their_order(learner):
    """All parameters as PyMARL lists them."""
    agent, mixer = learner.controller.agents, learner.mixer
    for layers in ((agent.encode,), (agent.input_gates, agent.hidden_gates), (agent.head,)):
        for name in ("weight", "bias"):
            yield from (getattr(layer, name) for layer in layers)
    weights, biases = (x.split(mixer.sizes) for x in (mixer.first.weight, mixer.first.bias))
    seconds = (mixer.w1[1], mixer.w2[1], None, mixer.v[1])
    for weight, bias, second in zip(weights, biases, seconds, strict=True):
        yield from (weight, bias)
        if second is not None:
            yield from (second.weight, second.bias)


def test_gradient_norm_before_clipping(learner):
    loss = learner(episodes(), torch.tensor(0.0)).terms["td"]
    gradients = torch.autograd.grad(loss, [*learner.shared(), *learner.mixer.parameters()])
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    assert float(norm) == close(NUMBERS["update0"]["grad_norm"])
