"""Scripted teams for the marine maps: actions [N, A] from (env, moment, keys)."""

import torch

from eoi.utils.seeding import fold, root_key, uniform


def keys_of(n, seed=0):
    return fold(root_key(seed, "test"), torch.arange(n))


def at_random(env, moment, key):
    return (uniform(key, *moment.avail.shape[1:]) * moment.avail).argmax(2)


def aggressive(env, moment, key):
    """Shoots when it can, mostly, and else wanders or waits."""
    weight = torch.ones(env.spec.n_actions)
    weight[6:] = 4
    return (uniform(key, *moment.avail.shape[1:]) ** (1 / weight) * moment.avail).argmax(2)


def waiting(env, moment, key):
    return moment.avail[..., 1].long()  # stop, or no-op for the dead


def in_line(env, moment, key):
    """Form a line, then all shoot at the weakest enemy in range.

    An agent with no enemy in range advances once the fight has begun.
    """
    agents = env.spec.n_agents
    health, position, can = env.combat.health, env.combat.position, moment.avail[..., 6:]
    alive = health[:, :agents] > 0
    own, foes = position[:, :agents], position[:, agents:]
    centre = (own * alive[..., None]).sum(1, keepdim=True) / alive.sum(1).clamp(min=1)[
        :, None, None
    ]
    score = health[:, agents:] + (foes - centre).square().sum(2).sqrt()
    shoot = torch.where(can, score[:, None], torch.inf).argmin(2) + 6
    rank = torch.where(alive, own[..., 1], torch.inf).argsort(1).argsort(1)
    dy = 16 + 0.8 * (rank - (alive.sum(1, keepdim=True) - 1) / 2) - own[..., 1]
    dx = 9 - own[..., 0]
    action = torch.ones_like(shoot)
    for wanted, move in (
        (dx > 0.57, 4),
        (dx < -0.57, 5),
        (dy > 0.57, 2),
        (dy < -0.57, 3),
        (can.any(2).any(1, keepdim=True), 4),
    ):
        action = torch.where(wanted, move, action)
    action = torch.where(moment.avail.gather(2, action[..., None])[..., 0], action, 1)
    return torch.where(alive, torch.where(can.any(2), shoot, action), 0)
