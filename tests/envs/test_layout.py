"""`env_args.layout`: a map as text or as a file, and maps that are refused."""

import pathlib
import re

import pytest

from eoi.config import loader
from eoi.envs import REGISTRY, configured
from eoi.settings import configure
from eoi.utils import places
from eoi.utils.errors import UserError
from helpers import keys

ROOT = pathlib.Path(__file__).parent.parent.parent
ROOMS = "#######\n#T.S.B#\n#L...R#\n#######"
ARGS = {"n_agents": 1, "dots_per_room": 1}
GRIDS = ("pac_men", "windy_maze", "firefighters")


def test_a_file_is_read_and_the_settings_hold_the_map(tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "my.txt").write_text(f"\n{ROOMS}\n\n")
    monkeypatch.chdir(tmp_path)
    assert configured("pac_men", ARGS | {"layout": "maps/my.txt"}).layout == ROOMS
    path = str(tmp_path / "maps" / "my.txt")
    assert configured("pac_men", ARGS | {"layout": path}).layout == ROOMS


def test_a_file_is_also_looked_for_in_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "my.txt").write_text(ROOMS.replace("\n", "  \r\n"))
    monkeypatch.setattr("eoi.envs.grid.ROOT", tmp_path)
    assert configured("pac_men", ARGS | {"layout": "my.txt"}).layout == ROOMS
    assert places.ROOT == ROOT


def test_a_file_named_on_the_command_line_and_in_yaml(tmp_path):
    """Settings from the command line and from a YAML file arrive in one form."""
    (tmp_path / "my.txt").write_text(ROOMS)
    words = ["seed=1", f"env_args.layout={tmp_path / 'my.txt'}", "env_args.n_agents=1"]
    updates = loader.parse_updates([*words, "env_args.dots_per_room=1"])
    assert configure(loader.load("qmix", "pac_men", updates)).env.layout == ROOMS


@pytest.mark.parametrize("place", ["beside the YAML", "in the current directory"])
def test_a_file_that_a_yaml_of_the_users_own_names(place, tmp_path, monkeypatch):
    own, here = tmp_path / "own", tmp_path / "here"
    for folder in (own, here):
        (folder / "maps").mkdir(parents=True)
    args = "{layout: maps/my.txt, n_agents: 1, dots_per_room: 1}"
    (own / "mine.yaml").write_text(f"base: pac_men\nenv_args: {args}\n")
    (own / "maps" / "my.txt").write_text(ROOMS)
    if place == "in the current directory":
        (here / "maps" / "my.txt").write_text(ROOMS.replace(".S.", ".S#"))
    monkeypatch.chdir(here)
    layout = configure(loader.load("qmix", str(own / "mine.yaml"), {"seed": 1})).env.layout
    assert (layout == ROOMS) == (place == "beside the YAML")
    (own / "maps" / "my.txt").unlink()
    monkeypatch.chdir(own)
    with pytest.raises(UserError, match=r"'maps/my\.txt' here, beside the YAML file"):
        configure(loader.load("qmix", "mine.yaml", {"seed": 1}))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (ROOMS.replace("\n", " "), "the map has only one line; in a YAML file, put `|` after"),
        (ROOMS.replace("\n", " ") + "\n", "the map has only one line; in a YAML file, put `|`"),
        (None, "the map is empty; in a YAML file, put `|`"),
        ("maps/none.txt", "there is no file 'maps/none.txt' here, beside the YAML file"),
        (ROOMS.replace("R#", "R"), "line 1 has 7 characters and line 3 has 6"),
        (
            ROOMS.replace("R", "x"),
            "unknown letter 'x' in line 3. Letters: # wall, . floor, S start",
        ),
        (ROOMS.replace("S", "."), "the map has no cell 'S'. Letters: # wall, "),
        (re.sub("[TBLR]", ".", ROOMS), "the map has no room. Letters: # wall, "),
    ],
)
def test_a_map_that_is_refused(layout, message):
    with pytest.raises(UserError, match=r"env_args\.layout: ") as refused:
        configured("pac_men", ARGS | {"layout": layout})
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROOMS.replace("\n", ""), "the map has only one line; a map has"),
        ("", "the file is empty; a map has lines of one length, such as ##### then "),
        (" \n\n", "the file is empty"),
    ],
)
def test_a_file_without_a_map_is_refused(text, message, tmp_path):
    path = tmp_path / "flat.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"flat\.txt: ") as refused:
        configured("pac_men", ARGS | {"layout": str(path)})
    assert message in str(refused.value) and "Letters: # wall, " in str(refused.value)


@pytest.mark.parametrize("name", GRIDS)
def test_the_page_of_each_world_lists_its_letters(name):
    page = (ROOT / "docs" / "worlds" / f"{name.replace('_', '-')}.md").read_text()
    for letter, meaning in REGISTRY[name].Config.letters.items():
        assert f"| `{letter}` | {meaning} |" in page


@pytest.mark.parametrize("name", GRIDS)
def test_the_command_of_each_page_names_a_map_that_can_be_played(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "worlds" / f"{name.replace('_', '-')}.md").read_text()
    (words,) = re.findall(
        r"^    bash run\.sh python src/main\.py (.* with .*layout=.*)$", page, re.M
    )
    assert words.startswith(f"--env-config={name} with ")
    updates = loader.parse_updates([*words.split(" with ")[1].split(), "seed=1"])
    chosen = configure(loader.load("qmix", name, updates))
    assert "\n" in chosen.env.layout
    env = REGISTRY[name](chosen.env, 2)
    env.reset(keys(2))
