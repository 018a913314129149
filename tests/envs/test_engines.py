"""Choice of the engine, settings that each engine refuses, and the engine's name in results."""

import dataclasses
import json
import logging

import pretend
import pytest
import yaml

from eoi import batch, evaluate, plot, watch
from eoi import main as program
from eoi.config import loader
from eoi.config.schema import parse
from eoi.envs import REGISTRY, configured
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.lite import LiteConfig, LiteStarCraft
from eoi.envs.starcraft.settings import StarCraftConfig
from eoi.records import reader
from eoi.records.record import labelled
from eoi.utils.errors import UserError

PYMARL = """
continuing_episode: False
difficulty: "7"
game_version: null
map_name: "3m"
move_amount: 2
obs_all_health: True
obs_instead_of_state: False
obs_last_action: False
obs_own_health: True
obs_pathing_grid: False
obs_terrain_height: False
obs_timestep_number: False
reward_death_value: 10
reward_defeat: 0
reward_negative_scale: 0.5
reward_only_positive: True
reward_scale: True
reward_scale_rate: 20
reward_sparse: False
reward_win: 200
replay_dir: ""
replay_prefix: ""
state_last_action: True
state_timestep_number: False
step_mul: 8
seed: null
heuristic_ai: False
heuristic_rest: False
debug: False
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    with pretend.pretended(tmp_path / "machine", monkeypatch) as found:
        yield found


@pytest.fixture
def bare(machine):
    machine.gone |= {"pysc2", "smac", "s2clientprotocol"}
    machine.binary.unlink()
    return machine


def test_auto_is_the_game_where_everything_is_there(machine):
    found = configured("sc2", {"map_name": "8m"})
    assert isinstance(found, StarCraftConfig) and found.engine == "game"


@pytest.mark.parametrize("part", ["pysc2", "s2clientprotocol", "smac", "binary", "map"])
def test_auto_is_lite_when_any_part_is_missing(part, machine):
    if part == "binary":
        machine.binary.chmod(0o644)
    elif part == "map":
        (machine.maps / "8m.SC2Map").write_text("")
    else:
        machine.gone.add(part)
    found = configured("sc2", {"map_name": "8m"})
    assert isinstance(found, LiteConfig) and found.engine == "lite" and found.map_name == "8m"
    assert len(installation.missing("8m")) == 1
    with pytest.raises(
        UserError,
        match="engine=game: 8m is played through SMAC, and these parts are missing",
    ):
        configured("sc2", {"map_name": "8m", "engine": "game"})


def test_without_the_game_other_maps_are_refused_with_all_that_is_missing(bare):
    with pytest.raises(
        UserError,
        match=r"env_args\.map_name=2s3z: not a map of the lite engine\..* It requires StarCraft II",
    ) as caught:
        configured("sc2", {"map_name": "2s3z"})
    lines = str(caught.value).split("\n")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "pysc2",
        "s2clientprotocol with protobuf",
        "SMAC",
        "StarCraft II",
        "map 2s3z",
    ]
    assert all("; " in line for line in lines[1:]) and "8m" in lines[0]


def test_nothing_of_the_game_is_asked_for_on_lite(bare, monkeypatch):
    monkeypatch.setattr(installation, "missing", lambda *_: pytest.fail("looked"))
    assert configured("sc2", {"engine": "lite"}) == LiteConfig()


@pytest.mark.parametrize("engine", ["lite", "auto", "game"])
def test_pymarls_file_is_accepted(engine, machine):
    found = configured("sc2", yaml.safe_load(PYMARL) | {"engine": engine})
    assert found.engine == ("lite" if engine == "lite" else "game") and found.map_name == "3m"
    if engine == "lite":
        assert found == LiteConfig(map_name="3m")


OWN = {
    "obs_pathing_grid": True,
    "obs_terrain_height": True,
    "heuristic_ai": True,
    "sight_range": 4.0,
    "replay_dir": "x",
    "difficulty": "5",
}


@pytest.mark.parametrize("key", OWN)
def test_what_lite_has_not_is_refused_by_name(key, bare):
    for engine in ("lite", "auto"):
        with pytest.raises(
            UserError, match=rf"env_args\.{key}={OWN[key]}: the lite engine supports only "
        ):
            configured("sc2", {"engine": engine, key: OWN[key]})


def test_what_is_only_about_the_games_program_is_nothing_to_lite():
    args = {"engine": "lite", "games": 2, "debug": True, "window_size_x": 640, "window_size_y": 480}
    assert configured("sc2", args) == LiteConfig()


def test_both_engines_have_the_same_defaults():
    own = dataclasses.asdict(StarCraftConfig(engine="lite"))
    assert all(own[name] == value for name, value in dataclasses.asdict(LiteConfig()).items())


@pytest.mark.parametrize("is_bare", [False, True])
@pytest.mark.parametrize("engine", ["auto", "game"])
@pytest.mark.parametrize(
    ("name", "near"), [("8M", "8m"), ("8mm", "8m"), ("so_many_banelings", "so_many_baneling")]
)
def test_an_unknown_map_is_refused_in_one_line(name, near, engine, is_bare, machine):
    if is_bare:
        machine.gone |= {"pysc2", "smac", "s2clientprotocol"}
    with pytest.raises(UserError) as refused:
        configured("sc2", {"map_name": name, "engine": engine})
    assert str(refused.value) == (
        f"env_args.map_name: there is no map {name!r}. Did you mean {near!r}?"
    )


def test_a_map_that_the_installed_smac_lacks(machine):
    with pytest.raises(UserError, match=r"map 3s5z: SMAC has no such map; choose another\."):
        configured("sc2", {"map_name": "3s5z", "engine": "game"})


def test_a_map_that_lite_lacks(bare):
    with pytest.raises(
        UserError, match=r"the lite engine has no map '5m_vs_7m'. Did you mean '5m_vs_6m'\?"
    ):
        configured("sc2", {"map_name": "5m_vs_7m", "engine": "lite"})


def test_versions_of_the_game(machine):
    assert configured("sc2", {"game_version": "4.10.0"}).engine == "game"
    for version in ("4.6.2", "9.9.9"):
        with pytest.raises(
            UserError,
            match=f"no version {version} in .* to the installed version: 4.10.0, or null",
        ):
            configured("sc2", {"game_version": version, "engine": "game"})


def test_the_server_in_the_games_place_is_never_called_the_game(machine):
    machine.binary.write_text("#!/usr/bin/env python\n")
    assert configured("sc2", {}).engine == "lite"
    with pytest.raises(
        UserError,
        match=r"is this project's server, not the game; .* \(env_args.engine=server plays on it\)",
    ):
        configured("sc2", {"engine": "game"})
    found = configured("sc2", {"engine": "server"})
    assert isinstance(found, StarCraftConfig) and found.engine == "server"
    assert labelled("sc2", vars(found)) == "sc2_server"
    with pytest.raises(
        UserError,
        match=r"It requires StarCraft II.*\n  StarCraft II: .* is this project's server",
    ):
        configured("sc2", {"map_name": "so_many_baneling"})


def test_the_game_is_no_server(machine):
    with pytest.raises(
        UserError,
        match=r"this project's server: .*SC2_x64 is the game; bash .*sc2_server.py install DIR",
    ):
        configured("sc2", {"engine": "server"})


def test_automls_smac_is_recognised(machine):
    (machine.packages / "smac" / "env" / "starcraft2" / "starcraft2.py").unlink()
    (found,) = installation.missing("8m")
    assert found.name == "SMAC" and "AutoML" in found.found and "pip uninstall smac" in found.fix


def test_a_protocol_that_does_not_fit_protobuf_is_recognised(machine):
    module = machine.packages / "s2clientprotocol" / "sc2api_pb2.py"
    module.write_text(
        "raise TypeError('Descriptors cannot be created directly.\\nIf this call came from ...')"
    )
    (found,) = installation.missing("8m")
    assert (
        "does not load with protobuf" in found.found
        and "Descriptors cannot be created directly." in found.found
    )
    assert "--force-reinstall" in found.fix


def test_the_registry_makes_the_engine_that_there_is(bare):
    env = REGISTRY["sc2"](REGISTRY["sc2"].Config(map_name="3m"), 2)
    assert isinstance(env, LiteStarCraft) and env.spec.notice.startswith(
        "WARNING: NOT StarCraft II: 3m"
    )


def test_so_many_baneling_as_the_authors_have_it_is_ready(machine):
    config = loader.load("eoi_qmix", "sc2_so_many_baneling", {})
    found = configured(config["env"], config["env_args"])
    assert found.engine == "game" and found.reward_sparse and not found.reward_scale
    assert (found.sight_range, found.shoot_range, found.move_amount) == (4.0, 0.0, 0.3)


TINY = [
    "hidden_dim=8",
    "batch_size=8",
    "batch_size_run=2",
    "buffer_size=200",
    "learning_starts=0",
    "update_interval=10",
]
TINY += [
    "t_max=40",
    "test_nepisode=2",
    "test_interval=20",
    "log_interval=20",
    "env_args.map_name=3m",
    "seed=1",
]


def test_a_run_on_lite_says_so_everywhere_and_stays_on_lite(bare, tmp_path, capfd, caplog):
    where = f"local_results_path={tmp_path}"
    assert program.main(["--config=qmix", "--env-config=sc2", "with", *TINY, where]) == 0
    folder = tmp_path / "sacred" / "1"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and warnings[0].message.startswith(
        "WARNING: NOT StarCraft II: 3m is played on the lite engine"
    )
    assert "sc2_lite qmix seed 1" in capfd.readouterr().out
    assert reader.read_config(folder)["env_args"]["engine"] == "lite"
    assert json.loads((folder / "run.json").read_text())["experiment"]["name"] == "qmix_lite"

    bare.gone.clear()  # the game is installed later
    bare.binary.symlink_to("/bin/sleep")
    assert configured("sc2", {"map_name": "3m"}).engine == "game"
    assert (
        evaluate.main([str(folder), "--episodes", "3", "--out", str(tmp_path / "values.json")]) == 0
    )
    assert capfd.readouterr().out.startswith("sc2_lite qmix seed 1, best networks (step ")
    assert json.loads((tmp_path / "values.json").read_text())["env"] == "sc2_lite"
    assert plot.main([str(folder), "--out", str(tmp_path / "curve.png")]) == 0
    assert "sc2_lite: test_return_mean" in capfd.readouterr().out
    assert program.main(["--resume", str(folder), "with", "t_max=80"]) == 0
    assert (
        "sc2_lite qmix seed 1" in capfd.readouterr().out
        and reader.read_config(folder)["env_args"]["engine"] == "lite"
    )
    film = tmp_path / "film.html"
    assert (
        watch.main([str(folder), "--quiet", "--out", str(film)]) == 0
        and "sc2_lite" in film.read_text()
    )
    job = batch.grid(
        batch.parser().parse_args(["--config", "qmix", "--env-config", "sc2", "--seeds", "1-1"]),
        [*TINY[:-1], where],
    )[0]
    assert job.title == "sc2_game qmix seed 1"


def test_a_run_of_before_the_engines_is_one_on_lite(tmp_path):
    old = parse(LiteConfig, {"map_name": "3m"})
    args = {name: value for name, value in dataclasses.asdict(old).items() if name != "engine"}
    (tmp_path / "config.json").write_text(json.dumps({"env": "sc2_lite", "env_args": args}))
    config = reader.read_config(tmp_path)
    assert config["env"] == "sc2" and configured(config["env"], config["env_args"]) == old
    assert config["env_args"] == dataclasses.asdict(old)  # so that a batch recognises it
