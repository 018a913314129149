"""Extras registered from outside of the package, and the contract that every learner keeps."""

import re
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from eoi import learners
from eoi.components.batch import Batch
from eoi.components.episodes import Episodes
from eoi.config import loader
from eoi.config.schema import setting
from eoi.learners import extras
from eoi.learners.base import HOOKS, Context, Extra, Losses, hooks, scalar
from eoi.learners.eoi import IntrinsicPolicy, ShapedReward
from eoi.learners.policy_learner import PolicyLearner
from eoi.main import main, parse_command
from eoi.modules import agents
from eoi.modules.layers import AgentMLP
from eoi.run import Run
from eoi.settings import configure, fits
from eoi.utils.errors import UserError
from helpers import make_trainer, tiny, trained
from test_resume import assert_same, final, resumed

# One algorithm for each learner.
ALGORITHM = {"q_learner": "qmix", "maac": "maac", "ppo": "ippo", "hc": "hc", "hsd": "hsd"}


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    weight: float = setting(0, default=0.0, varies=True)


class Toy(Extra[object]):
    """Pays each agent the mean of its observation."""

    Config = ToyConfig
    weight: Tensor

    def __init__(self, cfg: ToyConfig, context: Context):
        super().__init__()
        scalar(self, "weight", cfg.weight)

    @classmethod
    def active(cls, cfg: object) -> bool:
        return isinstance(cfg, ToyConfig) and cfg.weight > 0

    def rewards(self, batch: Batch, t: Tensor) -> dict[str, Tensor]:
        return {"toy": self.weight * batch.obs.mean(-1)}


@pytest.fixture
def register(monkeypatch):
    """`extras.register`, undone after the test."""
    monkeypatch.setattr(extras, "REGISTRY", dict(extras.REGISTRY))
    monkeypatch.setattr(loader, "_DECLARED", dict(loader._DECLARED))
    return extras.register


@pytest.fixture
def toy(register):
    register("toy", Toy)


def weights(run: Run) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in run.learner.state_dict().items()}


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """The tensors that both have are the same, bit for bit."""
    return all(torch.equal(x, theirs[name]) for name, x in ours.items() if name in theirs)


@pytest.mark.parametrize("algorithm", ["qmix", "iql", "maac", "ippo", "eoi_qmix"])
def test_a_weight_changes_the_run_and_zero_does_not(algorithm, toy):
    base, off, on = (
        weights(trained(tiny(algorithm, **more))[0].runs[0])
        for more in ({}, {"toy": {"weight": 0.0}}, {"toy": {"weight": 5.0}})
    )
    assert base.keys() == off.keys() and equal(base, off)
    assert not equal(base, on)


@pytest.mark.parametrize("algorithm", ["qmix", "maac"])
def test_a_weight_changes_the_gradient(algorithm, toy):
    trainer = make_trainer(tiny(algorithm, toy={"weight": 5.0}))
    trainer.play()
    (run,), found = trainer.runs, []
    batch = next(iter(run.batches()))
    (extra,) = run.learner.with_hook("rewards")
    for factor in (1.0, 0.0):
        extra.weight *= factor
        td = run.learner(batch, run.now, 0).terms["td"]
        online = [p for p in run.learner.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(td, online, allow_unused=True)
        found.append(torch.cat([g.flatten() for g in slopes if g is not None]))
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_a_fleet_applies_each_runs_own_weight(toy):
    chosen = [tiny("qmix", toy={"weight": weight}) for weight in (0.5, 5.0)]
    fleet = make_trainer(*chosen)
    fleet.train()
    alone = [trained(each)[0].runs[0] for each in chosen]
    for ours, theirs in zip(fleet.runs, alone, strict=True):
        for name, x in weights(ours).items():
            assert (x - weights(theirs)[name]).abs().max() <= 1e-3, name
    assert not equal(weights(fleet.runs[0]), weights(fleet.runs[1]))


class Plain(Toy):
    """Keeps its weight as a plain number, of which a stack has one for all runs."""

    def __init__(self, cfg: ToyConfig, context: Context):
        super().__init__(cfg, context)
        del self.weight
        self.weight = cfg.weight


def test_a_varied_number_that_is_no_buffer_is_refused(register, tmp_path, capsys):
    register("toy", Plain)
    words = ['fleet.vary={"toy.weight": [0.5, 5]}', "seed=1", f"local_results_path={tmp_path}"]
    assert main(["--config=iql", "with", *words]) == 2
    error = capsys.readouterr().err
    assert "fleet.vary: toy.weight: Plain keeps it as a plain number" in error
    assert 'register it by scalar(self, "weight", cfg.weight)' in error
    assert error.count("\n") == 1 and not any(tmp_path.iterdir())


def test_the_command_line_knows_it(toy):
    command = parse_command(["with", 'fleet.vary={"toy.weight": [0.5, 2]}', "seed=1"])
    each = [command.settings, *(other.settings for other in command.others)]
    assert [s.extra("toy").cfg.weight for s in each] == [0.5, 2.0]
    assert command.config["toy"] == {"weight": 0.5}
    with pytest.raises(UserError, match=r"with toy\.weight=0 that part is not in the program"):
        parse_command(["with", 'fleet.vary={"toy.weight": [0, 2]}', "seed=1"])


def test_a_mistyped_key_is_refused(toy, tmp_path, capsys):
    assert main(["with", "toy.wieght=1", f"local_results_path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "toy.wieght: there is no such setting. Did you mean 'toy.weight'?" in error
    assert error.count("\n") == 1 and not any(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"toy\.weight: must be at least 0, got -1"):
        tiny("qmix", toy={"weight": -1.0})


def test_an_unregistered_section_is_unknown():
    with pytest.raises(UserError, match="toy: there is no such setting"):
        tiny("qmix", toy={"weight": 1.0})


class Chooser(Toy):
    """Leaves the greedy actions as they are."""

    def choose(self, best, obs, avail, keys, t):
        return best


def test_a_learner_refuses_a_hook_that_it_does_not_call(register):
    register("toy", Chooser)
    assert trained(tiny("qmix", toy={"weight": 1.0}))[0].at.updates == 12
    why = "learner=maac does not call its hook choose; it goes with q_learner"
    refused_by("maac", why)


def refused_by(algorithm: str, why: str) -> None:
    """By the checks of the whole and of typed settings."""
    with pytest.raises(UserError, match=f"^toy: {why}"):
        tiny(algorithm, toy={"weight": 1.0})
    given = {"toy": {"weight": 1.0}, "seed": 1}
    with pytest.raises(UserError, match=f"^toy: has no effect with --config={algorithm}; {why}"):
        configure(loader.load(algorithm, "pac_men", given), given)


@pytest.mark.parametrize("kind", [learners.Learner, PolicyLearner])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_base_of_learners_serves_only_the_hook_that_the_run_calls(hook, kind):
    assert fits(counting(Counter(), frozenset({hook})), kind) is (hook == "observe")


def counting(calls: Counter, names: frozenset[str]) -> type[Extra]:
    """A class of extras that overrides these hooks, and counts their calls."""

    def counted(name: str):
        def hook(self, *given):
            calls[name] += 1
            return getattr(Extra, name)(self, *given)

        return hook

    own = {name: counted(name) for name in names}
    init = {"Config": ToyConfig, "__init__": lambda self, cfg, context: Extra.__init__(self)}
    return type("Counting", (Extra,), own | init)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("name", learners.REGISTRY)
def test_every_hook_that_a_learner_serves_is_called(name, runs, register):
    calls: Counter = Counter()
    kind = counting(calls, learners.REGISTRY[name].serves)
    register("toy", kind)
    assert hooks(kind) == learners.REGISTRY[name].serves <= set(HOOKS)
    assert fits(kind, learners.REGISTRY[name])
    make_trainer(*(tiny(ALGORITHM[name], seed=seed) for seed in range(runs))).train()
    assert set(calls) == hooks(kind)


class Mine(ShapedReward):
    """A form of EOI from outside."""


def test_a_subclass_under_a_name_of_its_own_is_applied(register):
    register("eoi.mine", Mine)
    mine, reward, none = (
        weights(trained(tiny("qmix", epsilon_start=0.1, eoi=eoi))[0].runs[0])
        for eoi in ({"form": "mine", "alpha": 1000.0}, {"form": "reward", "alpha": 1000.0}, {})
    )
    assert mine.keys() == reward.keys() and equal(mine, reward)
    assert not equal(mine, none)


class Curious(Toy):
    """Its reward grows with the episodes that it has seen."""

    seen: Tensor

    def __init__(self, cfg: ToyConfig, context: Context):
        super().__init__(cfg, context)
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, episodes: Episodes) -> None:
        self.seen += len(episodes.length)

    def rewards(self, batch: Batch, t: Tensor) -> dict[str, Tensor]:
        return {"curious": self.weight * self.seen * batch.obs.mean(-1)}


def test_state_of_an_extra_is_resumed_and_stacked(register, tmp_path):
    register("toy", Curious)
    on = {"toy": {"weight": 1.0}}
    whole, _ = trained(tiny("qmix", **on), tmp_path / "whole")
    trained(tiny("qmix", **on, t_max=60), tmp_path / "parts")
    continued = resumed(tiny("qmix", **on), tmp_path / "parts")
    continued.train()
    assert_same(final(tmp_path / "parts"), final(tmp_path / "whole"))
    fleet = make_trainer(*(tiny("qmix", seed=seed, **on) for seed in (3, 4)))
    fleet.train()
    ours, theirs = weights(fleet.runs[0]), weights(whole.runs[0])
    assert ours["extras.0.seen"] == theirs["extras.0.seen"] == 4
    assert all((x - theirs[name]).abs().max() <= 1e-3 for name, x in ours.items())


class Replacing(Curious):
    """Its `observe` makes a new buffer, which a fleet would not see."""

    def observe(self, episodes: Episodes) -> None:
        self.seen = self.seen + len(episodes.length)


def test_an_extra_that_replaces_a_buffer_is_refused(register):
    register("toy", Replacing)
    with pytest.raises(TypeError, match=r"Replacing\.observe: write seen in place"):
        make_trainer(tiny("qmix", toy={"weight": 1.0})).play()


class Pushed(Toy):
    """A loss term of the agents' values."""

    view = learners.base.Values

    def losses(self, batch, view, t) -> Losses:
        return Losses({"push": -self.weight * batch.mean(view.q).sum()}, {})


def test_a_view_that_a_learner_does_not_lend_is_refused(register):
    register("toy", Pushed)
    assert trained(tiny("vdn", toy={"weight": 1.0}))[0].at.updates == 12
    why = "learner=ppo lends its loss terms no Values; it goes with q_learner"
    refused_by("ippo", why)


class Clashing(Extra[object]):
    """Names its term as QMIX names its own."""

    Config, switch = ToyConfig, "weight"

    def __init__(self, cfg, context):
        super().__init__()

    def losses(self, batch, view, t):
        return Losses({"td": batch.reward.sum()}, {})


class ClashingStatistic(Clashing):
    """Names a statistic as QMIX names its own."""

    def losses(self, batch, view, t):
        return Losses({}, {"q_taken_mean": batch.reward.sum()})


@pytest.mark.parametrize(("kind", "name"), [(Clashing, "td"), (ClashingStatistic, "q_taken_mean")])
def test_a_name_that_exists_already_is_refused(kind, name, register):
    register("toy", kind)
    trainer = make_trainer(tiny("qmix", toy={"weight": 1.0}))
    with pytest.raises(UserError, match=rf"{kind.__name__}\.losses: '{name}' exists already"):
        trainer.train()


class Studied(Clashing):
    """Adds a field to rollouts, and a stream of rewards."""

    taken: str  # name of the field

    def rewards(self, batch, t):
        return {"mine": torch.ones_like(batch.actions).float()}

    def losses(self, batch, view, t):
        return Losses({}, {})

    def study(self, rollout, t):
        return {self.taken: torch.full_like(rollout.actions, 7).float()}


@pytest.mark.parametrize("name", ["mine_reward", "returns"])
def test_a_field_of_a_rollout_that_exists_already_is_refused(name, register):
    register("toy", type("Studied", (Studied,), {"taken": name}))
    trainer = make_trainer(tiny("ippo", toy={"weight": 1.0}))
    with pytest.raises(UserError, match=rf"Studied\.study: '{name}' exists already"):
        trainer.train()


def test_only_streams_are_logged_as_rewards(register):
    register("toy", type("Studied", (Studied,), {"taken": "other_reward"}))
    _, logged = trained(tiny("ippo", toy={"weight": 1.0}))
    found = {name: value for name, value, _ in logged if name.endswith("_reward_mean")}
    assert found == {"mine_reward_mean": 1.0}


class TwoHeads(agents.Agent):
    """Has a second head, which no term of a learner reaches."""

    gives = frozenset({"guess"})

    def __init__(self, sizes: agents.Sizes):
        super().__init__(sizes)
        self.body, self.head, self.second = (
            AgentMLP(sizes.n_agents, [width, out])
            for width, out in ((sizes.inputs, 8), (8, sizes.outputs), (8, 1))
        )

    def step(self, x, carry):
        return self.unroll(x), carry

    def unroll(self, x, length=None):
        return self.explain(x)[0]

    def explain(self, x, length=None):
        hidden = self.body(x).relu()
        return self.head(hidden), {"guess": self.second(hidden)}


class Guessing(Toy):
    """Trains the second head."""

    view, reads = learners.base.Values, frozenset({"guess"})

    def losses(self, batch, view, t) -> Losses:
        return Losses({"guess": batch.mean(view.given["guess"].square()).sum()}, {})


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("qmix", {"toy": {"weight": 1.0}}),
        ("eoi_qmix", {"toy": {"weight": 1.0}, "eoi": {"strength": "share", "project": True}}),
        ("hc", {}),
        ("hsd", {}),
    ],
)
def test_parameters_that_a_term_does_not_reach_have_no_gradient(
    algorithm, more, register, monkeypatch
):
    monkeypatch.setitem(agents.REGISTRY, "two_heads", TwoHeads)
    register("toy", Guessing)
    trainer, logged = trained(tiny(algorithm, agent="two_heads", **more))
    assert trainer.at.updates and "grad_norm" in {name for name, *_ in logged}
    assert ("guess_grad_norm" in {name for name, *_ in logged}) is ("toy" in more)


class Misprojected(IntrinsicPolicy):
    """Projects a term that it does not have."""

    def __init__(self, cfg, context):
        super().__init__(cfg, context)
        self.projected = frozenset({"pul"})


class Misscaled(Misprojected):
    """Scales a term that it does not have."""

    def __init__(self, cfg, context):
        super().__init__(cfg, context)
        self.projected, self.scaled = frozenset(), frozenset({"pull", "pul"})


class Undeclared(Misprojected):
    """Scales a term that it does not declare."""

    def __init__(self, cfg, context):
        super().__init__(cfg, context)
        self.projected = self.scaled = frozenset()


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Misprojected, "there is no loss term 'pul'; there are classifier, intrinsic_value, pull"),
        (Misscaled, "there is no loss term 'pul'; there are classifier, intrinsic_value, pull"),
        (Undeclared, "Losses.shares: 'pull' is not in scaled; list it there"),
    ],
)
def test_a_side_term_that_does_not_exist_is_refused(kind, why, runs, register):
    register("eoi.mine", kind)
    eoi = {"form": "mine", "strength": "share"}
    trainer = make_trainer(*(tiny("eoi_qmix", seed=seed, eoi=eoi) for seed in range(runs)))
    with pytest.raises(UserError, match=why):
        trainer.train()
    assert trainer.at.updates == 0


class Flat(TwoHeads):
    """One network for all agents, whose parameters have no axis of agents."""

    gives = frozenset()

    def __init__(self, sizes: agents.Sizes):
        agents.Agent.__init__(self, sizes)
        self.net = nn.Linear(sizes.inputs, sizes.outputs)

    def explain(self, x, length=None):
        return self.net(x), {}


class Uneven(TwoHeads):
    """One body for all agents, and a head for each."""

    gives = frozenset()

    def __init__(self, sizes: agents.Sizes):
        super().__init__(sizes)
        self.body = AgentMLP(sizes.n_agents, [sizes.inputs, 8], shared=True)
        del self.second

    def explain(self, x, length=None):
        return self.head(self.body(x).relu()), {}


@pytest.mark.parametrize(
    ("algorithm", "more", "fits"),
    [
        ("qmix", {}, True),
        ("maac", {"actor_clip": 0.0}, True),
        ("maac", {}, False),
        ("ippo", {}, False),
        ("eoi_qmix", {"eoi": {"strength": "share"}}, False),
        ("eoi_qmix", {"eoi": {"project": True}}, False),
    ],
)
@pytest.mark.parametrize(("kind", "name"), [(Flat, "net.weight"), (Uneven, "head.layers.0.weight")])
def test_agents_without_an_axis_of_agents_are_refused_where_it_is_needed(
    kind, name, algorithm, more, fits, monkeypatch
):
    monkeypatch.setitem(agents.REGISTRY, "own", kind)
    settings = tiny(algorithm, agent="own", t_max=60, **more)
    if fits:
        assert trained(settings)[0].at.updates
        return
    with pytest.raises(UserError, match=rf"^controller\.agents\.{re.escape(name)}: has the shape"):
        make_trainer(settings)


class Forgotten(Clashing):
    """Has a network that no optimiser trains."""

    def __init__(self, cfg, context):
        super().__init__(cfg, context)
        self.net = nn.Linear(2, 2)


def test_a_network_that_no_optimiser_has_is_refused(register):
    register("toy", Forgotten)
    with pytest.raises(UserError, match=r"^toy\.net\.weight: no optimiser has it; list"):
        make_trainer(tiny("eoi_qmix", toy={"weight": 1.0}))


class Bare(Clashing):
    def __init__(self, cfg):
        super().__init__(cfg, None)


def test_an_extra_that_takes_no_context_is_refused(register):
    message = r"^toy: Bare\.__init__ takes \(self, cfg, context\): too many positional arguments$"
    with pytest.raises(UserError, match=message):
        register("toy", Bare)


class Keeping(Toy):
    keeps = frozenset({"q"})


class KeepingMore(Toy):
    keeps = frozenset({"mine"})


class Farther(Clashing):
    window = 10


def test_extras_with_different_windows_are_refused(register):
    register("toy", Farther)
    assert make_trainer(tiny("qmix", toy={"weight": 1.0})).runs[0].learner.wants.window == 10
    assert make_trainer(tiny("eoi_qmix", eoi={"delta_t": 10}, toy={"weight": 1.0}))
    with pytest.raises(UserError, match=r"^eoi and toy: .* up to 4 and 10 steps.*eoi\.delta_t"):
        make_trainer(tiny("eoi_qmix", toy={"weight": 1.0}))


class KeepingLater(Toy):
    """Its settings choose the tensors."""

    def __init__(self, cfg: ToyConfig, context: Context):
        super().__init__(cfg, context)
        self.keeps = frozenset({"q"})


@pytest.mark.parametrize(
    ("kind", "algorithm", "why"),
    [
        (Keeping, "maac", "learner=maac holds no 'q'; it goes with q_learner"),
        (KeepingMore, "qmix", "learner=q_learner holds no 'mine'$"),
    ],
)
def test_a_tensor_that_the_learner_does_not_hold_is_refused(kind, algorithm, why, register):
    register("toy", kind)
    refused_by(algorithm, why)


def test_so_is_one_that_settings_choose(register):
    register("toy", KeepingLater)
    with pytest.raises(UserError, match=r"^KeepingLater\.keeps: MAAC holds no 'q'$"):
        make_trainer(tiny("maac", toy={"weight": 1.0}))
    assert trained(tiny("qmix", toy={"weight": 1.0}))[0].at.updates
