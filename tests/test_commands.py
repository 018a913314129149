"""Every command that the README and the pages print, run in a small form or at least parsed."""

import contextlib
import importlib.util
import itertools
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from eoi import batch, cli, figure
from eoi import main as program
from eoi.config import loader
from eoi.records import figures, reader

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STARTS = ("bash ", "python ", "eoi ", "PYTHONPATH=")
SMALL = [
    "seed=3",
    "hidden_dim=8",
    "batch_size=4",
    "batch_size_run=1",
    "buffer_size=500",  # four episodes of 8m, a batch of agents with memory
    "learning_starts=0",
    "t_max=1",
    "test_nepisode=1",
    "test_interval=60",
    "log_interval=1",
]
FEW = ["rollout_episodes=1"]  # of HC, which would not fit so small a replay
# Commands with plugins run in processes of their own: test_own_algorithm.py, envs/test_own_world.py
PLUGINS = re.compile(r"plugins=|\b(my|lamps)\.yaml|import own_world")
# Words of a page that stand for a name.
NAMES = {"ALG": "qmix", "ENV": "pac_men", "RUN": "3"}


def printed(text: str) -> list[str]:
    """Commands in fenced blocks, in indented ones, and in backquotes."""
    fenced = re.findall(r"```(?:bash|sh|console)[^\n]*\n(.*?)```", text, re.DOTALL)
    blocks = "\n".join(fenced).replace("\\\n", " ").splitlines()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^    (.*)$", prose, re.MULTILINE)
    quoted = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)
    lines = [line.strip().removeprefix("$ ") for line in blocks]
    lines += [line for line in (*indented, *quoted) if line.startswith(STARTS)]
    return [line for line in lines if line and not line.startswith("#")]


def commands() -> dict[str, str]:
    """Each command once, by page and text."""
    found = {}
    for page in PAGES:
        for line in printed(page.read_text()):
            if line not in found.values() and not PLUGINS.search(line):
                found[f"{page.relative_to(ROOT)}: {line[:70]}"] = line
    return found


COMMANDS = commands()


def words_of(line: str) -> list[str]:
    """Words of a command as a user would type them: names filled in, optional parts left out."""
    without = re.sub(r"\[-[^\]]*\]", "", line)
    split = shlex.split(without, comments=True)
    kept = [word for word in split if word not in ("...", "key=value")]
    return [re.sub(r"\b(ALG|ENV|RUN)\b", lambda m: NAMES[m[0]], word) for word in kept]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs 1, 2 and 3: a sweep over eoi.alpha; elsewhere, a run whose agents have skills."""
    folder = tmp_path_factory.mktemp("commands")
    sweep = 'fleet.vary={"eoi.alpha": [0, 0.003, 0.05]}'
    place = f"local_results_path={folder / 'results'}"
    assert program.main(["--config=eoi_qmix", "with", *SMALL, "t_max=60", sweep, place]) == 0
    place = f"local_results_path={folder / 'skills'}"
    assert program.main(["--config=hc", "with", *SMALL, *FEW, place]) == 0
    return folder


def skilled(folder: pathlib.Path) -> str:
    """The run whose agents have skills."""
    return str(folder / "skills" / "sacred" / "1")


@pytest.fixture
def here(results, monkeypatch):
    """The folder of a user who has three runs."""
    monkeypatch.chdir(results)
    monkeypatch.setattr(reader, "SACRED", results / "results" / "sacred")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for name in ("eoi.plot", "eoi.report", "eoi.saved", "eoi.watch", "eoi.utils.script"):
        module = importlib.import_module(name)
        if hasattr(module, "FIGURES"):
            monkeypatch.setattr(module, "FIGURES", results / "figures")
    return results


def train(words: list[str], here: pathlib.Path, capsys) -> None:
    """A run as short as possible; a world or database that is not here is named."""
    words = ["--resume=latest" if word == "--resume" else word for word in words]
    if "--resume=latest" in words:
        assert program.main(["--resume=latest", "with", "t_max=600"]) == 0
        return
    if "--mongo" in words:
        assert program.parse_command(words).further
        return
    given = [] if "with" in words else ["with"]
    own = small(words) + (FEW if "--config=hc" in words else [])
    if "evaluate=True" in words:  # of one of the three runs
        words = ["--config=eoi_qmix" if w.startswith("--config") else w for w in words]
    words = [f"skills_from={skilled(here)}" if w.startswith("skills_from=") else w for w in words]
    status = program.main([*words, *given, *own, f"local_results_path={here / 'more'}"])
    error = capsys.readouterr().err
    game = any("engine=game" in word or "so_many" in word for word in words)
    if game and status == 2:  # on a machine without the game
        assert "StarCraft II" in error and "no such" not in error, error
    elif {"--tensorboard", "--wandb"} & set(words) and status == 2:
        assert "it is not installed" in error, error
    else:
        assert status == 0, error


def small(words: list[str]) -> list[str]:
    """Settings that make a command's run short: those of `SMALL` that it reads."""
    named = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
    config = loader.load(*named, "pac_men", {}) if named else loader.defaults()
    chosen = [w for w in SMALL if not w.startswith("learning_") or config["learner"] != "ppo"]
    fleet = any("fleet.seeds" in word for word in words)
    few_counts = ["edti.buckets=4096"] if config["edti"]["eta"] else []
    return few_counts + [w for w in chosen if not (fleet and w.startswith("seed"))]


def python(script: str, rest: list[str], here: pathlib.Path, capsys) -> None:
    path = ROOT / script
    assert path.exists(), script
    if path.parent.name == "benchmarks":
        benchmark(path, rest)
        return
    if path.parent.name != "src":
        compile(path.read_text(), script, "exec")
        return
    name = path.stem
    if name == "main":
        train(rest, here, capsys)
        return
    module = importlib.import_module(f"eoi.{name}")
    rest = [str(ROOT / w) if w.endswith(".csv.gz") and (ROOT / w).exists() else w for w in rest]
    rest = [skilled(here), *rest[1:]] if "--skills" in rest else rest
    if "--out" in rest:
        pathlib.Path(rest[rest.index("--out") + 1]).parent.mkdir(parents=True, exist_ok=True)
    if not rest and name in ("plot", "report", "watch", "evaluate", "batch", "export", "sync"):
        return  # the program's name alone
    unknown = any("$" in word for word in rest)  # variables of a shell
    needs = {"--step", "--mongo", "engine=game"} & set(rest) or name in ("sync", "sc2_server")
    needs = needs or (any(w.endswith("mp4") for w in rest) and not importlib.util.find_spec("av"))
    if "--help" in rest:
        with contextlib.suppress(SystemExit):
            assert module.main(rest) == 0
        assert "usage" in capsys.readouterr().out
    elif unknown or needs:
        module.parser().parse_args(rest)
    else:
        assert module.main(short(name, rest)) == 0, capsys.readouterr().err


def short(name: str, rest: list[str]) -> list[str]:
    """A batch in words alone; one episode of a command that plays."""
    if name == "batch":
        return ["--dry-run", *rest]
    return ["1" if before == "--episodes" else w for before, w in itertools.pairwise(["", *rest])]


def figure_command(words: list[str]) -> None:
    """Parsed, and the runs of the paper's figures in it are planned, as if a GPU were here."""
    before, given = batch.split([word for word in words if word != "use_cuda=True"])
    options = figure.parser().parse_args(before)
    for name in set(options.names) & set(figures.names()):
        assert figure.planned(options, given, figures.read(name))


def benchmark(path: pathlib.Path, rest: list[str]) -> None:
    """Few repeats of almost no time; all sizes, N = 1024 among them."""
    small = {
        "speed": ["--env", "windy_maze", "--algorithms", "qmix", "--workers", "--repeats", "1"],
        "fleet": ["--runs", "2", "--steps", "120"],
        "cost": ["--algorithms", "hc", "--worlds", "windy_maze", "--seconds", "0.001"],
        "sc2_server": ["--help"],
        "report": ["--help"],  # it needs a browser
    }[path.stem]
    small += ["--seconds", "0.001"] if path.stem == "speed" else []
    if "--cuda" in rest:  # which is not here
        small = ["--help"]
    given = [word for word in rest if word not in ("--cuda", "--whole")]
    called = [sys.executable, path, *given, *small]
    done = subprocess.run(called, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "windy_maze, acting" in done.stdout or path.stem != "speed"


def unwrapped(words: list[str]) -> list[str]:
    """A command without variables and run.sh before it; the script of `eoi plot` and `plot`."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[:2] == ["bash", "run.sh"]:
        words = words[2:]
    if words[:1] == ["eoi"]:
        words = words[1:]
    if words and words[0] in cli.COMMANDS:
        return ["python", f"src/{cli.COMMANDS[words[0]][0]}.py", *words[1:]]
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_a_printed_command_works(name, here, capsys):
    first, *rest = unwrapped(words_of(COMMANDS[name])) or ["nothing"]
    if first == "bash":
        script = ROOT / rest[0]
        assert script.exists() and not subprocess.run(["bash", "-n", script]).returncode
    elif first == "python" and rest[0] == "src/figure.py":
        figure_command(rest[1:])
    elif first == "python":
        python(rest[0], rest[1:], here, capsys)
    elif first == "pip" and "-r" in rest:
        assert (ROOT / rest[rest.index("-r") + 1]).exists()
    else:
        assert first in ("nothing", "pytest", "pip", "docs", "setup", "tensorboard", "wandb"), (
            f"unknown command: {first}"
        )


def test_the_pages_print_many_commands():
    """The collection finds what it is meant to find."""
    every = "\n".join(COMMANDS.values())
    for expected in ("src/main.py", "src/plot.py", "src/watch.py", "benchmarks/speed.py", "pytest"):
        assert expected in every, expected
    assert len(COMMANDS) > 30


def test_every_algorithm_has_a_page():
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "algorithms").glob("*.md"))
    assert [name for name in loader.names("algs") if f"`{name}`" not in pages] == []
