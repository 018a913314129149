"""Which runs belong together: settings that set runs apart, groups, worlds, selections."""

import fnmatch
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence

from eoi.config import loader
from eoi.config.schema import nearest
from eoi.records.record import Record, flat
from eoi.utils.errors import UserError

# Settings that never set two runs apart: the world's name, where a run computes, the files it keeps
IGNORED = frozenset(
    {"use_cuda", "cuda_graphs", "threads", "local_results_path", "world"}
    | {"save_model", "save_interval", "save_replay"}
)
WITHIN = frozenset(
    {"seed", "label", "absolute_nepisode"}
)  # settings that vary within a group of runs
_BARE = frozenset({"name", "label"})  # settings whose value alone is clear in a legend

_ACTOR_CRITIC = frozenset({"actor_clip", "actor_lr", "critic_clip", "critic_lr"})
_MAAC = frozenset({"attend_heads", "logit_decay", "reward_scale"})
_PPO = frozenset({"critic_input", "entropy_coef", "epochs", "eps_clip", "gae_lambda"})
_Q_LEARNER = frozenset(
    {"double_q", "epsilon_anneal_time", "epsilon_finish", "epsilon_start", "grad_norm_clip"}
    | {"hypernet_embed", "hypernet_layers", "lr", "mixer"}
    | {"mixing_activation", "mixing_bias", "mixing_embed_dim"}
)
_OFF_POLICY = frozenset(
    {"learning_starts", "target_update_interval", "target_update_tau"}
    | {"update_interval", "update_interval_episodes"}
)
_SKILLS = frozenset({"hold", "n_skills"})
_HC = frozenset({"rollout_episodes", "skill_entropy", "skill_episodes", "skills_from"})
_HSD = frozenset(
    {"decoder_batch", "decoder_difference", "decoder_lr", "decoder_skip"}
    | {"skills_start", "skills_threshold"}
    | {"task_weight_episodes", "task_weight_finish", "task_weight_start"}
)
_HIERARCHIES = _SKILLS | _HC | _HSD
# Settings that a learner does not read. A learner that is not listed reads every setting.
UNREAD = {
    "q_learner": _ACTOR_CRITIC | _MAAC | _PPO | _HIERARCHIES,
    "maac": _Q_LEARNER | _PPO | _HIERARCHIES,
    "ppo": _Q_LEARNER | _MAAC | _OFF_POLICY | _HIERARCHIES,
    "hc": (_Q_LEARNER - {"lr"}) | _MAAC | _HSD | {"target_update_interval"},
    "hsd": _ACTOR_CRITIC | _MAAC | _PPO | _HC,
}

_CLASSIFIER = frozenset(
    {"beta1", "beta2", "classifier_lr", "delta_t", "form", "intrinsic", "log_odds_step"}
)
_ALPHA = frozenset({"alpha", "alpha_anneal", "alpha_floor", "alpha_warmup"})
_VALUE = frozenset({"value_lr", "value_tau"})
_BOUNDS = frozenset({"constraint_lr", "constraint_slack", "trust_region"})
_GRADIENT = _CLASSIFIER | _ALPHA | _VALUE | _BOUNDS | {"project", "strength"}
_EXPLORE = frozenset(
    {"chooser", "episode_ratio", "explore_anneal", "explore_floor", "explore_hold"}
    | {"explore_ratio", "explore_turn", "explorers", "gamma", "reward_scale"}
)
# Settings that each form of a section reads.
READ: dict[str, dict[str, frozenset[str]]] = {
    "eoi": {
        "classifier": _CLASSIFIER,
        "reward": _CLASSIFIER | _ALPHA,
        "pull": _GRADIENT | {"q_input", "q_source"},
        "invariant": _GRADIENT | {"q_source"},
        "explore": _CLASSIFIER | _VALUE | _EXPLORE,
        "policy": _GRADIENT | _EXPLORE | {"temperature"},
    }
}

# Settings of a section that switch it off where all of them are 0.
SWITCHES = {
    "lfo": frozenset({"omega"}),
    "kl": frozenset({"weight"}),
    "roma": frozenset({"entropy_weight", "kl_weight", "dissimilarity_weight"}),
    "edti": frozenset({"eta", "reward_weight", "value_weight"}),
}

# Settings without effect where another one has one of these values.
_IDLE_WHERE: dict[str, tuple[str, tuple[object, ...]]] = {
    "eoi.delta_t": ("eoi.beta1", (0,)),
    "eoi.alpha_floor": ("eoi.alpha_anneal", (0,)),
    **{
        f"eoi.{key}": ("eoi.episode_ratio", (0,))
        for key in _EXPLORE - {"chooser", "episode_ratio", "gamma", "reward_scale"}
    },
    "eoi.explore_turn": ("eoi.explorers", ("all",)),
    "eoi.constraint_slack": ("eoi.constraint_lr", (0,)),
    "lfo.anneal_time": ("lfo.schedule", ("constant", "adaptive")),
    **{
        key: ("mixer", ("vdn", "none"))
        for key in ("hypernet_embed", "hypernet_layers", "mixing_activation", "mixing_bias")
    },
    "mixing_embed_dim": ("mixer", ("vdn", "none")),
    "optim_alpha": ("optimizer", ("adam",)),
}

Value = int | float | str | None


def identity(config: Mapping[str, object]) -> str:
    """Text that is equal for two configurations exactly if they ask for the same run.

    Numbers compare by value: 1 and 1.0 are equal.
    """
    kept = {key: value for key, value in config.items() if key not in IGNORED}
    return json.dumps(plain(kept), sort_keys=True)


def plain(value: object) -> object:
    """A setting as JSON has it, whether it was read from YAML or from Sacred's JSON."""
    if isinstance(value, dict):
        if set(value) == {"py/tuple"}:
            return plain(value["py/tuple"])
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def asks_for(record: Record, config: Mapping[str, object]) -> bool:
    """Whether a run has these settings, whatever its seed and label.

    A setting that one of them lacks, because it was added or removed between them, does not count,
    unless a removed one was in use. Complete a run's settings first (records/shipped.py), so that
    one that was added has its default.
    """
    own, wanted = record.settings, dict(flat(config))
    for key in (own.keys() | wanted.keys()) - IGNORED - WITHIN:
        if key in own and key in wanted:
            if not idle(record, key) and plain(own[key]) != plain(wanted[key]):
                return False
        elif own.get(key) and not key.startswith("fleet."):
            return False
    return True


def value(record: Record, key: str) -> Value:
    """A setting's value, in a form in which equal values are equal; a list is given as text."""
    return of_setting(record.settings.get(key))


def of_setting(found: object) -> Value:
    """A value as `value` gives it."""
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return found if found is None or isinstance(found, int | float | str) else repr(found)


def idle(record: Record, key: str) -> bool:
    """Whether the setting has no effect in this run, so that its value says nothing about it."""
    settings, (section, _, name) = record.settings, key.partition(".")
    form = settings.get(f"{section}.form")
    if form == "none":  # the section is switched off
        return key != f"{section}.form"
    if name not in SWITCHES.get(section, {name}) and _switched_off(record, section):
        return True
    forms = READ.get(section, {})
    if str(form) in forms and name not in forms[str(form)]:
        return any(name in read for read in forms.values())  # else of an earlier program
    other, values = _IDLE_WHERE.get(key, ("", ()))
    if other in settings and settings[other] in values:
        return True
    return key in UNREAD.get(str(settings.get("learner")), ())


def _switched_off(record: Record, section: str) -> bool:
    return all(record.settings.get(f"{section}.{name}") == 0 for name in SWITCHES[section])


def differing(records: Sequence[Record], keys: Iterable[str]) -> list[str]:
    """Those of the settings that have several values among the runs.

    A run that lacks a setting, because it was recorded before the setting existed, has its default;
    it does not count where there is none.
    """
    usual = dict(flat(loader.defaults()))

    def values(key: str) -> set[Value]:
        read = [record for record in records if not idle(record, key)]
        found = {value(record, key) for record in read if key in record.settings}
        lacking = key in usual and any(key not in record.settings for record in read)
        return found | {of_setting(usual[key])} if found and lacking else found

    return [key for key in keys if len(values(key)) > 1]


def setting_apart(records: Sequence[Record], but: Iterable[str] = ()) -> list[str]:
    """Settings in which the runs differ, but for seed, label and `but`, in alphabetical order."""
    keys = {key for record in records for key in record.settings}
    return differing(records, sorted(keys - IGNORED - WITHIN - set(but)))


def twice(where: str, records: Sequence[Record]) -> list[str]:
    """A remark on runs of one seed, which an interval would count as independent."""
    if len({record.seed for record in records}) == len(records):
        return []
    return [f"{where}: a seed occurs more than once among its {len(records)} runs"]


def apart_by_name(
    worlds: Iterable[Sequence[Record]], over: Iterable[str] = ()
) -> dict[str, list[str]]:
    """For each name, the settings in which its runs differ within a world, but for those in `over`.

    worlds: the runs of each world. A setting that differs only between worlds is left out.
    """
    found: dict[str, set[str]] = {}
    for records in worlds:
        for name, same in _grouped(records, ["name"]).items():
            found.setdefault(name, set()).update(setting_apart(same, over))
    return {name: sorted(keys) for name, keys in found.items()}


def in_labels(
    apart: Mapping[str, Sequence[str]], by: Sequence[str] | None
) -> dict[str, Sequence[str]]:
    """For each name, the settings that `grouped` writes in the labels of its runs."""
    return dict(apart) if by is None else dict.fromkeys(apart, by)


def grouped(
    records: Sequence[Record],
    by: Sequence[str] | None,
    apart: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[Record]]:
    """Runs under the text of their `by` settings; unfinished ones are a group of their own.

    by: None groups by name, and by each further setting in which runs of one name differ.
    apart: these further settings of each name; None finds them among `records`.
    """
    if by is not None:
        return _unfinished_apart(_grouped(records, by))
    apart = apart_by_name([records]) if apart is None else apart
    return _unfinished_apart(
        {
            label: members
            for name, same in _grouped(records, ["name"]).items()
            for label, members in _grouped(same, ["name", *apart[name]]).items()
        }
    )


def _unfinished_apart(groups: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for name, records in groups.items():
        for record in sorted(records, key=lambda record: record.unfinished):
            parts = [name, "unfinished" if record.unfinished else ""]
            found.setdefault(", ".join(filter(None, parts)), []).append(record)
    return found


def split(groups: Mapping[str, Sequence[Record]], by: Sequence[str]) -> dict[str, list[Record]]:
    """Each group divided by the values of further settings."""
    return {
        ", ".join(part for part in (name, label) if part): members
        for name, records in groups.items()
        for label, members in _grouped(records, by).items()
    }


def _grouped(records: Sequence[Record], by: Sequence[str]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: [order(value(record, key)) for key in by]):
        found.setdefault(_label(record, by), []).append(record)
    return found


def _label(record: Record, by: Sequence[str]) -> str:
    parts = []
    for key in by:
        if not idle(record, key) and key in record.settings:
            text = shown(value(record, key))
            parts.append(text if key in _BARE else f"{key.removeprefix('env_args.')}={text}")
    return ", ".join(parts)


def shown(value: Value) -> str:
    """A setting's value in a label; a map of several lines by its checksum."""
    text = str(value)
    return f"map {zlib.crc32(text.encode()):08x}" if "\n" in text else text


def order(value: Value) -> tuple[float, str]:
    """A key that sorts numbers by size, before words."""
    return (value if isinstance(value, int | float) else float("inf"), str(value))


def worlds(records: Sequence[Record], by: Sequence[str]) -> dict[str, list[Record]]:
    """Runs by environment; each variant of an environment is a world of its own.

    by: settings that are compared, so that they make no worlds.
    """
    found: dict[str, list[Record]] = {}
    for env in sorted({record.world for record in records}):
        members = [record for record in records if record.world == env]
        keys = {key for record in members for key in record.settings if key.startswith("env_args.")}
        apart = differing(members, sorted(keys - set(by)))
        for record in members:
            variant = ", ".join(
                f"{key.removeprefix('env_args.')}={shown(record.settings.get(key))}"
                for key in apart
            )
            found.setdefault(f"{env} ({variant})" if variant else env, []).append(record)
    return found


def selected(records: Sequence[Record], conditions: Sequence[str]) -> list[Record]:
    """Runs that meet every condition KEY=VALUE[,VALUE]. Raises UserError.

    A value may be a shell pattern. The key `run` stands for the name of a run's folder.
    """
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: expected KEY=VALUE[,VALUE]")
        if key != "run":
            refuse_unknown(records, [key], "--where")
        kept = [record for record in records if _meets(record, key, text.split(","))]
        if not kept:
            raise UserError(f"--where {condition}: no run meets it")
        records = kept
    return list(records)


def _meets(record: Record, key: str, patterns: Sequence[str]) -> bool:
    found = record.run if key == "run" else value(record, key)
    return any(
        fnmatch.fnmatchcase(str(found), pattern) or _equals(found, pattern) for pattern in patterns
    )


def _equals(found: Value, text: str) -> bool:
    """Whether both are the same number: 0.0001 and 1e-4."""
    try:
        return not isinstance(found, bool | str | None) and float(text) == found
    except ValueError:
        return False


def refuse_unknown(records: Sequence[Record], keys: Iterable[str], option: str) -> None:
    """Raises UserError for a setting that no run has."""
    known = {key for record in records for key in record.settings}
    for key in keys:
        if records and key not in known:
            apart = setting_apart(records)
            differ = f" These runs differ in: {', '.join(apart)}." if apart else ""
            hint = nearest(key, known) or differ
            raise UserError(f"{option} {key}: there is no such setting.{hint}")


def refuse_unlogged(records: Sequence[Record], metrics: Iterable[str], option: str) -> None:
    """Raises UserError for a metric that no run has logged."""
    known = {name for record in records for name in record.metrics}
    for name in metrics:
        if name not in known:
            tests = sorted(other for other in known if other.startswith("test_"))
            hint = nearest(name, known) or f" Tests have logged: {', '.join(tests)}."
            raise UserError(f"{option} {name}: no run has logged it.{hint}")
