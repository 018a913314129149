"""Settings: default.yaml <- envs/<env>.yaml <- algs/<alg>.yaml <- `with key=value`.

They are merged into one nested dictionary.

A file that says `base: x` is laid over x.yaml of its folder.
"""

import ast
import copy
import functools
import importlib
import importlib.util
import pathlib
import re
import traceback
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from eoi.config.schema import OWN, nearest
from eoi.utils.errors import UserError
from eoi.utils.places import expanded

FOLDER = pathlib.Path(__file__).parent

# PyMARL's settings that have another name here, or none.
PYMARL = {
    "runner": "there is one runner, which plays `batch_size_run` copies of the environment at once",
    "mac": "there is one controller; `share_params` and `obs_agent_id` say which kind",
    "rnn_hidden_dim": "it is called `hidden_dim` here",
    "target_update_interval_or_tau": "use `target_update_tau` (soft) or "
    "`target_update_interval` (hard, in episodes)",
    "load_step": "`checkpoint_path` takes the networks saved last",
    "action_selector": "value learners are epsilon-greedy; see `epsilon_start`",
    "test_greedy": "tests are always greedy",
    "buffer_cpu_only": "the replay lies on the run's device",
    "runner_log_interval": "use `log_interval`",
    "learner_log_interval": "use `log_interval`",
    "use_tensorboard": "runs are logged by Sacred; `src/plot.py` draws them",
    "save_model_interval": "use `save_interval`, in minutes",
}


class _Loader(yaml.SafeLoader):
    """PyYAML reads 5e-4 as a string; YAML 1.2 and this loader read a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@functools.lru_cache(64)
def _parsed(text: str) -> Any:
    """Content of a YAML text. A figure reads the same few files for each of its runs."""
    return yaml.load(text, _Loader)


def read_yaml(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = copy.deepcopy(_parsed(path.read_text()))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise UserError(
            f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines")
    return content


def names(kind: str) -> list[str]:
    """The algorithms (`algs`) or environments (`envs`) that have a YAML."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml"))


def _read_named(kind: str, flag: str, name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file laid over its bases; `above`: files that it is a base of."""
    path = _file(kind, flag, name)
    if name in above:
        raise UserError(f"{_shown(kind, name)}: its `base` leads back to itself")
    content = read_yaml(path)
    _find_map(content, path.parent)
    base = content.pop("base", None)
    if base is None:
        return content
    return merged(_read_named(kind, flag, base, (*above, name)), content)


def _file(kind: str, flag: str, name: str) -> pathlib.Path:
    """A file of config/, or the user's own where the name ends with .yaml."""
    own = expanded(name)
    if own.suffix == ".yaml" and own.is_file():
        return own
    if name not in names(kind):
        raise UserError(f"{flag}={name}: {_misnamed(kind, own)}")
    return FOLDER / kind / f"{name}.yaml"


def _find_map(content: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Replaces the name of a map's file by its path in `folder`, unless it is found from here."""
    settings = content.get("env_args")
    if not isinstance(settings, dict):
        return
    name = settings.get("layout")
    if not isinstance(name, str) or "#" in name or expanded(name).is_file():
        return
    if (folder / name).is_file():
        settings["layout"] = str(folder / name)


_KINDS = {"algs": ("--config", "an algorithm"), "envs": ("--env-config", "an environment")}


def _misnamed(kind: str, own: pathlib.Path) -> str:
    """Reason why a name is none of config/, and the words to type instead."""
    flag, this = _KINDS[kind]
    for other, (its_flag, called) in _KINDS.items():
        if str(own) in names(other):
            return f"{called}, not {this}; write {its_flag}={own}"
    if own.is_file():
        return f"not {this}, which is a YAML file; a map is env_args.layout={own}, behind `with`"
    near = nearest(str(own), names(kind))
    return f"there is no such file.{near} Or name a file of your own, {flag}=FILE.yaml."


def _shown(kind: str, name: str) -> str:
    """Name of a settings file in messages."""
    return name if name.endswith(".yaml") else f"config/{kind}/{name}.yaml"


def use_plugins(modules: object) -> None:
    """Imports the user's own modules, which may register extras, learners or worlds.

    Raises UserError.
    """
    if not isinstance(modules, list | tuple) or not all(isinstance(m, str) for m in modules):
        raise UserError(f"plugins={modules}: expected a list of modules, such as 'plugins=[mine]'")
    for module in modules:
        try:
            importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"plugins: {module}: {_why(module, error)}") from None


def _why(module: str, error: Exception) -> str:
    """Reason why a module was not imported: it is not found, or a line of its file failed."""
    path = pathlib.Path(module)
    if "/" in module or path.suffix == ".py":
        write = f"write PYTHONPATH={path.parent} in front, and 'plugins=[{path.stem}]'"
        return f"a plugin is a module's name; {write}"
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f"{error}; put its folder on PYTHONPATH"
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    spec = importlib.util.find_spec(module)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if spec and frame.filename == spec.origin]
    where = (own or frames)[-1]
    said = str(error).partition("\n")[0]
    return f"{where.filename}:{where.lineno}: {type(error).__name__}: {said}"


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`: dictionaries are merged, everything else is replaced."""
    result = copy.deepcopy(dict(under))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict) and key not in OPEN:
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


OPEN = frozenset({"vary"})  # dictionaries whose keys are data, not settings


def _refuse_unknown(
    content: Mapping[str, Any],
    known: Mapping[str, Any],
    source: str,
    env_args: Collection[str],
    prefix: str = "",
) -> None:
    for key, value in content.items():
        if prefix == "env_args.":
            return  # the environment's own dataclass knows them
        if key not in known:
            hint = PYMARL.get(key) if not prefix else None
            reason = (
                f" {hint[0].upper()}{hint[1:]}."
                if hint
                else _meant(f"{prefix}{key}", [*_flat(known, prefix), *env_args])
            )
            if isinstance(value, Mapping) and "Did" not in reason:
                reason += OWN
            raise UserError(f"{source}{prefix}{key}: there is no such setting.{reason}")
        if isinstance(known[key], dict):
            if not isinstance(value, Mapping):
                raise UserError(f"{source}{prefix}{key}: a section, set {prefix}{key}.NAME=...")
            if key not in OPEN:
                _refuse_unknown(value, known[key], source, (), f"{prefix}{key}.")


def _meant(name: str, names: Collection[str]) -> str:
    """' Did you mean ...?': the setting of that name in a section, else the nearest one."""
    inside = [other for other in names if other.endswith(f".{name}")]
    return f" Did you mean {inside[0]!r}?" if len(inside) == 1 else nearest(name, names)


def _flat(known: Mapping[str, Any], prefix: str) -> list[str]:
    flat = []
    for key, value in known.items():
        flat += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return flat


def parse_updates(pairs: Iterable[str]) -> dict[str, Any]:
    """`a.b=value` pairs as a nested dictionary.

    Values are Python or YAML literals, else strings.
    """
    updates: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"with {pair}: expected key=value")
        *sections, last = key.split(".")
        inner = updates
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UserError(f"with {pair}: {section} was given a value before")
        inner[last] = _literal(text)
    return updates


def _literal(text: str) -> Any:
    if not text:
        return text  # YAML reads it as null
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        try:
            return yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError):  # of a date that does not exist
            return text


_DECLARED: dict[str, dict[str, Any]] = {}  # sections of extras, beside those of default.yaml


def declare(section: str, values: Mapping[str, Any]) -> None:
    """Adds a section of settings with its defaults; default.yaml's own values come first."""
    _DECLARED[section] = _DECLARED.get(section, {}) | dict(values)


def defaults() -> dict[str, Any]:
    """Every setting and its default."""
    return merged(_DECLARED, read_yaml(FOLDER / "default.yaml"))


def load(
    algorithm: str, env: str, updates: Mapping[str, Any], env_args: Collection[str] = ()
) -> dict[str, Any]:
    """The settings of a run, every key of which default.yaml knows. Raises UserError.

    `env_args`: full names of the environments' settings, for the message on an unknown one.
    """
    layers = [
        (f"{_shown('envs', env)}: ", environment(env)),
        (f"{_shown('algs', algorithm)}: ", _read_named("algs", "--config", algorithm)),
        ("with ", updates),
    ]
    files = layers[:2]
    for source, content in files:
        if "fleet" in content:
            raise UserError(f"{source}fleet: a fleet is asked for on the command line alone")
    for _, content in layers:
        use_plugins(content.get("plugins", []))
    config = defaults()
    known = copy.deepcopy(config)
    for source, content in layers:
        _refuse_unknown(content, known, source, env_args)
        config = merged(config, content)
    if "plugins" in known:  # a world's file and an algorithm's may each need modules
        modules = [module for _, content in layers for module in content.get("plugins", [])]
        config["plugins"] = list(dict.fromkeys(modules))
    if "world" in known:
        config["world"] = config["world"] or _world_name(env, updates)
    return _as_integers(config, known)


def environment(name: str) -> dict[str, Any]:
    """The file of an environment, laid over its bases. Raises UserError."""
    content = _read_named("envs", "--env-config", name)
    if name.endswith(".yaml") and "env" not in content:
        raise UserError(
            f"{name}: no world in it; add `env: pac_men`, or a file to lay it over, `base: pac_men`"
        )
    return content


def _world_name(env: str, updates: Mapping[str, Any]) -> str:
    """Name of the environment's file, and of the map's file if the user typed one."""
    layout = str(updates.get("env_args", {}).get("layout", ""))
    own_map = f"_{pathlib.Path(layout).stem}" if layout and "\n" not in layout else ""
    return f"{pathlib.Path(env).stem}{own_map}"


def _as_integers(config: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """1e5 as 100000, for each setting whose default is an integer."""
    result = dict(config)
    for key, default in known.items():
        value = config[key]
        if isinstance(default, dict):
            result[key] = _as_integers(value, default)
        elif type(default) is int and isinstance(value, float) and value.is_integer():
            result[key] = int(value)
    return result
