"""install_sc2.sh with a curl, an unzip and a git that only pretend."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent

FAKES = {
    # Like curl, it keeps a part of the file and adds the rest. `cut` in its notes: the connection
    # breaks once.
    "curl": """#!/bin/bash
echo "$*" >>"$NOTES/calls"
while [ $# -gt 1 ]; do [ "$1" = -o ] && file=$2; shift; done
if [ -e "$NOTES/cut" ]; then rm "$NOTES/cut"; printf half >>"$file"; exit 18; fi
printf whole >>"$file"
""",
    "unzip": """#!/bin/bash
echo "$*" >>"$NOTES/calls"
while [ $# -gt 0 ]; do
    [ "$1" = -P ] && word=$2
    [ "$1" = -d ] && folder=$2
    shift
done
[ "$word" = iagreetotheeula ] || { echo "incorrect password" >&2; exit 82; }
mkdir -p "$folder/StarCraftII/Versions/Base75689" "$folder/StarCraftII/Maps"
echo game >"$folder/StarCraftII/Versions/Base75689/SC2_x64"
""",
    "git": """#!/bin/bash
case "$3" in
rev-parse) [ -e "$2/.git" ] && echo "$(cat "$2/.git")" || exit 128 ;;
init) ;;
fetch)
    [ ! -e "$NOTES/offline" ] || exit 128
    echo "${@: -1}" >"$2/.git"; echo "git $*" >>"$NOTES/calls" ;;
checkout)
    maps=$2/smac/env/starcraft2/maps/SMAC_Maps
    mkdir -p "$maps"; echo map >"$maps/8m.SC2Map" ;;
esac
""",
}
RUN = """echo "$@" >>"$NOTES/calls"\n[ ! -e "$NOTES/no-pip" ]\n"""


class Place:
    def __init__(self, folder: pathlib.Path):
        self.root, self.notes, self.bin, self.game = (
            folder / name for name in ("a clone", "notes", "bin", "the game")
        )
        for new in (self.root, self.notes, self.bin):
            new.mkdir()
        shutil.copy(ROOT / "install_sc2.sh", self.root)
        (self.root / "run.sh").write_text(RUN)
        for name, text in FAKES.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def call(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "NOTES": str(self.notes),
            "HOME": str(self.root),
            "SC2PATH": str(self.game),
        }
        command = ["bash", str(self.root / "install_sc2.sh"), *words]
        return subprocess.run(
            command,
            env=given | env,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def calls(self) -> list[str]:
        return (
            (self.notes / "calls").read_text().splitlines()
            if (self.notes / "calls").exists()
            else []
        )

    @property
    def binary(self) -> pathlib.Path:
        return self.game / "Versions" / "Base75689" / "SC2_x64"

    @property
    def downloads(self) -> pathlib.Path:
        return self.game.with_name("the game.downloads")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


EULA = {"SC2_EULA": "iagreetotheeula"}


def test_everything_and_again(place):
    result = place.call(**EULA)
    assert result.returncode == 0, result.stderr
    assert (
        os.access(place.binary, os.X_OK)
        and (place.game / "Maps" / "SMAC_Maps" / "8m.SC2Map").read_text() == "map\n"
    )
    calls = place.calls()
    assert (
        len([call for call in calls if call.startswith("git fetch") or " fetch " in call]) == 1
    )  # for SMAC and its maps
    pip = [call for call in calls if "pip" in call]
    assert pip == [
        f"python -m pip install -r {place.root}/requirements-sc2.txt",
        f"python -m pip install --no-deps {place.downloads}/smac",
    ]
    assert f"export SC2PATH={place.game}" in result.stderr
    assert not (place.downloads / "unpacked").exists()
    before = len(calls)
    assert (
        place.call("game", "maps", **EULA).returncode == 0 and len(place.calls()) == before
    )  # nothing is loaded twice


def test_the_licence_is_the_users_to_accept(place):
    result = place.call("game")
    assert (
        result.returncode == 2
        and "licence has to be accepted" in result.stderr
        and not place.calls()
    )
    wrong = place.call("game", SC2_EULA="no")
    assert wrong.returncode == 1 and "wrong password" in wrong.stderr and not place.game.exists()
    assert place.call("game", **EULA).returncode == 0
    assert len([call for call in place.calls() if "-C -" in call]) == 1  # the archive was kept


def test_a_load_that_was_cut_goes_on(place):
    (place.notes / "cut").touch()
    result = place.call("game", **EULA)
    assert (
        result.returncode == 1
        and "the next call continues" in result.stderr
        and not place.binary.exists()
    )
    assert place.call("game", **EULA).returncode == 0
    archive = place.downloads / "SC2.4.10.zip"
    assert archive.read_text() == "halfwhole" and all(
        "-C -" in call for call in place.calls() if "http" in call
    )


def test_the_checksum_of_the_first_load_is_kept_and_a_given_one_is_demanded(place):
    expected = hashlib.sha256(b"whole").hexdigest()
    refused = place.call("game", SC2_SHA256="0" * 64, **EULA)
    assert (
        refused.returncode == 1
        and f"has SHA-256 {expected}, not SC2_SHA256" in refused.stderr
        and not place.binary.exists()
    )
    assert place.call("game", SC2_SHA256=expected, **EULA).returncode == 0
    assert (place.downloads / "SC2.4.10.zip.sha256").read_text() == f"{expected}\n"
    shutil.rmtree(place.game)
    (place.downloads / "SC2.4.10.zip").write_text("rotten")
    rotten = place.call("game", **EULA)
    assert (
        rotten.returncode == 1
        and "has changed since its download" in rotten.stderr
        and not place.binary.exists()
    )


def test_what_is_there_stays(place):
    (place.game / "Maps").mkdir(parents=True)
    (place.game / "Maps" / "own.SC2Map").write_text("mine")
    assert place.call("game", **EULA).returncode == 0
    assert place.binary.exists() and (place.game / "Maps" / "own.SC2Map").read_text() == "mine"


def test_the_server_is_not_taken_for_the_game(place):
    place.binary.parent.mkdir(parents=True)
    place.binary.write_text("#!/bin/sh\n")
    result = place.call("game", **EULA)
    assert result.returncode == 2 and "this project's server" in result.stderr and not place.calls()


def test_the_environment_in_use_gets_the_packages(place, tmp_path):
    python = tmp_path / "mine" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "mine $*" >>"$NOTES/calls"\n')
    python.chmod(0o755)
    assert place.call("smac", VIRTUAL_ENV=str(tmp_path / "mine")).returncode == 0
    assert [call.split()[0] for call in place.calls() if "pip" in call] == ["mine", "mine"]


def test_failures_are_one_line(place):
    (place.notes / "offline").touch()
    result = place.call("maps")
    assert result.returncode == 1 and "could not load d6aab33" in result.stderr.splitlines()[-1]
    (place.notes / "offline").unlink()
    (place.notes / "no-pip").touch()
    result = place.call("smac")
    assert result.returncode == 1 and result.stderr.splitlines()[-1].endswith("failed")
    for words in (["maps", "gmae"], ["--all"]):
        assert place.call(*words).returncode == 2
    shown = place.call("--help")
    assert shown.returncode == 0 and str(place.game) in shown.stdout
