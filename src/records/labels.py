"""Names of metrics that people read, with their units, and the values that chance gives them."""

import difflib
import math
import re
from collections.abc import Sequence

from eoi.records.record import Record

INTRINSIC = "individuality_mean"

# Metrics by their logged name, without `test_` in front and an agent's number at the end.
_LABELS = {
    # Episodes
    "return_mean": "return",
    "return_share": "return (share of best)",
    "return_std": "standard deviation of returns",
    "ep_length_mean": "episode length (steps)",
    "episode": "episodes played",
    "updates": "updates",
    "dropped_episodes": "episodes lost to faults",
    # Diversity
    "snd": "system neural diversity (total variation)",
    "position_overlap": "overlap of position maps",
    "probe_accuracy": "accuracy of a fresh classifier",
    # Worlds
    "dots_eaten_mean": "dots eaten (dots)",
    "rooms_visited_mean": "rooms visited (rooms)",
    "rooms_occupied_mean": "rooms occupied at the end (rooms)",
    "left_open_mean": "left box open (share of episodes)",
    "right_open_mean": "right box open (share of episodes)",
    "ends_visited_mean": "ends visited (ends)",
    "ends_occupied_mean": "ends occupied at the end (ends)",
    "extinguished_a_mean": "fires out in area A (cells)",
    "extinguished_b_mean": "fires out in area B (cells)",
    "water_pumped_mean": "water pumped (units)",
    "sprayed_mean": "water sprayed (units)",
    "pumped_mean": "water pumped (units)",
    "areas_visited_mean": "areas visited (areas)",
    "areas_occupied_mean": "areas occupied at the end (areas)",
    "battle_won_mean": "win rate",
    "dead_allies_mean": "allies lost (units)",
    "dead_enemies_mean": "enemies killed (units)",
    "agent_return_mean": "return of an agent",
    # Individuality
    INTRINSIC: r"intrinsic reward, mean $p(i\,|\,o_i)$",
    "classifier_accuracy": "accuracy of the classifier",
    "classifier_loss": "loss of the classifier (nats)",
    "classifier_ce": "cross-entropy of the classifier (nats)",
    "classifier_pd": "positive distance (nats)",
    "classifier_mi": "entropy of the classifier, $H(I|O)$ (nats)",
    "intrinsic_value_loss": "loss of the intrinsic value",
    "intrinsic_value_mean": "mean intrinsic value",
    "intrinsic_slope": "slope of the intrinsic value in $Q^a$",
    "alpha": r"weight of individuality, $\alpha$",
    "pull_distance": "cross-entropy to the intrinsic policy (nats)",
    "lfo_weight_mean": "mean importance weight",
    "lfo_omega": r"share of relearnt experience, $\omega$",
    "kl_mean": "KL divergence between agents (nats)",
    # Rivals
    "role_entropy": "entropy of the roles (nats)",
    "role_kl": "KL divergence of roles from the history's guess (nats)",
    "role_specialisation": "loss of specialisation",
    "role_dissimilarity": "dissimilarity of the agents' roles",
    "external_value_loss": "loss of the task's value",
    "curious_value_loss": "loss of the value of curiosity",
    "visits_filled": "share of the table of visits in use",
    "moves_filled": "share of the table of moves in use",
    "skill_loss": "loss of the skills' policies",
    "skill_reward": "reward of the skills",
    "skill_probability": "probability of the right skill",
    "skill_accuracy": "accuracy of the skill decoder",
    "skills_in_use": "skills in use (skills)",
    "decoder_loss": "loss of the skill decoder (nats)",
    "task_weight": "weight of the task's reward",
    "low_loss": "temporal-difference loss of the low level",
    "low_target_mean": "mean target of the low level",
    # Learning
    "loss": "temporal-difference loss",
    "td_error_abs": "absolute temporal-difference error",
    "q_taken_mean": "mean value of the actions taken",
    "q_abs_mean": r"mean $|Q^a|$",
    "q_spread": "range of $Q^a$ over actions",
    "q_offset": "offset of $Q^a$: mean absolute mean over actions",
    "q_scale": "scale of $Q^a$: deviation over batch and actions, centred",
    "q_std": "spread of $Q^a$: standard deviation over actions",
    "mixing_weight": r"mixing weight: mean $|dQ_{tot}/dQ^a|$",
    "target_mean": "mean target",
    "value_mean": "mean value",
    "epsilon": r"exploration rate, $\varepsilon$",
    "entropy": "entropy of the policies (nats)",
    "actor_loss": "loss of the actors",
    "policy_loss": "loss of the policies",
    "advantage_abs": "absolute advantage",
    "ratio_clipped": "share of clipped ratios",
    "policy_change": "KL divergence of an update (nats)",
    "grad_norm": "gradient norm",
}
_TERMS = {
    "td_agent": "temporal difference",
    "td": "temporal difference",
    "intrinsic_value": "intrinsic value",
}
_PREFIXES = {"test": "test", "absolute": "absolute"}

_SLIP = 0.9  # similarity of a name with two letters exchanged, or one left out

# Metrics that are 1 / number of agents where agents cannot be told apart.
_ONE_OF_N = {INTRINSIC, "classifier_accuracy", "test_probe_accuracy", "lfo_weight_mean"}
# Metrics that are the logarithm of the number of agents there.
_LOG_OF_N = {"classifier_ce", "classifier_mi"}
# Metrics that are 1 / number of skills where all are as likely.
_ONE_OF_SKILLS = {"skill_probability", "skill_accuracy"}
# Agents of SMAC's maps whose names do not tell.
_SQUADS = {"MMM": 10, "MMM2": 10, "bane_vs_bane": 24, "corridor": 6, "so_many_baneling": 7}


def known(metric: str) -> bool:
    """Whether the metric has a label of its own."""
    return _text(_parts(metric)[1]) is not None


def meant(metric: str) -> str:
    """The name with a label that one without may stand for, by a slip of the keys; else empty."""
    if known(metric):
        return ""
    every = [*_LABELS, *(f"{prefix}_{name}" for prefix in _PREFIXES for name in _LABELS)]
    return next(iter(difflib.get_close_matches(metric, every, n=1, cutoff=_SLIP)), "")


def literal(text: str) -> str:
    """A user's words in a picture, where $ would begin a formula."""
    return text.replace("$", r"\$")


def label(metric: str) -> str:
    """Label of a metric, with its unit: `test_return_mean` is `Test return`."""
    prefix, name, agent = _parts(metric)
    text = _text(name)
    if text is None:
        return metric
    before = "training " if name == "return_mean" and not prefix else f"{prefix} " if prefix else ""
    after = f", agent {agent}" if agent else ""
    whole = f"{before}{text}{after}"
    return whole[:1].upper() + whole[1:]


# TeX of the labels as letters.
_LETTERS = {
    r"\,": "",
    r"\alpha": "\N{GREEK SMALL LETTER ALPHA}",
    r"\omega": "\N{GREEK SMALL LETTER OMEGA}",
    r"\varepsilon": "\N{GREEK SMALL LETTER EPSILON}",
    "_{tot}": "ₜₒₜ",
    "_i": "ᵢ",
    "^a": "ᵃ",
}


def plain(metric: str) -> str:
    """The metric's label as plain text."""
    parts = label(metric).split("$")
    for k in range(1, len(parts), 2):  # those between two dollar signs are TeX
        for tex, letter in _LETTERS.items():
            parts[k] = parts[k].replace(tex, letter)
    return "".join(parts)


def _parts(metric: str) -> tuple[str, str, str]:
    """Its prefix, its name, and an agent's number; each may be empty."""
    prefix, _, rest = metric.partition("_")
    name = rest if prefix in _PREFIXES else metric
    found = re.fullmatch(r"(.*_mean)_(\d+)", name)
    own = _PREFIXES.get(prefix, "")
    return (own, found[1], found[2]) if found else (own, name, "")


def _text(name: str) -> str | None:
    if name in _LABELS:
        return _LABELS[name]
    if found := re.fullmatch(r"(.+)_reward_mean", name):
        return f"reward for {_term(found[1])}, mean"
    if found := re.fullmatch(r"(.+)_grad_norm", name):
        return f"gradient norm of the {_term(found[1])} term"
    if found := re.fullmatch(r"(.+)_(td|actor|policy)_cosine", name):
        return f"cosine of the {_term(found[1])} and {_term(found[2])} gradients"
    return None


def _term(name: str) -> str:
    return _TERMS.get(name, name)


def chance(metric: str, records: Sequence[Record]) -> float | None:
    """The metric's value by chance, where it is known and the same in all runs."""
    if metric not in _ONE_OF_N | _LOG_OF_N | _ONE_OF_SKILLS:
        return None
    number_of = _skills_of if metric in _ONE_OF_SKILLS else agents_of
    found = {number_of(record) for record in records}
    n = found.pop() if len(found) == 1 else None
    if not n:
        return None
    return math.log(n) if metric in _LOG_OF_N else 1 / n


def _skills_of(record: Record) -> int | None:
    """Number of skills in use, where it is the same in the whole run."""
    return None if record.settings.get("skills_start") else record.settings.get("n_skills")


def agents_of(record: Record) -> int | None:
    """Number of agents in the run's world, where its record has it."""
    found = record.settings.get("env_args.n_agents")
    if isinstance(found, int):
        return found
    name = str(record.settings.get("env_args.map_name"))
    if name in _SQUADS:
        return _SQUADS[name]
    units = re.fullmatch(r"(?:\d+[a-z]+)+", name.partition("_vs_")[0])  # as 2s3z, 27m_vs_30m
    if units:
        return sum(int(count) for count in re.findall(r"\d+", units[0]))
    own = [m for m in record.metrics if re.fullmatch(r"test_agent_return_mean_\d+", m)]
    return len(own) or None  # PettingZoo's games log one for each agent
