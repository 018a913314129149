"""Builds the documentation site from the pages of this repository.

    bash run.sh docs [--out site] [--serve]        --serve: show it at http://localhost:8000

Pages keep the places they have here, so that their links work in the repository and on the site. A
link to a module leads to the module's page of the reference, which is made of its docstrings; any
other file that a page links to is copied.
"""

import argparse
import functools
import http.server
import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGE = ROOT / "build" / "docs"
# Each page is in the first section that names it.
SECTIONS = {
    "Worlds": [
        *("docs/worlds.md", "docs/worlds/pac-men.md", "docs/worlds/windy-maze.md"),
        *("docs/worlds/firefighters.md", "docs/worlds/*.md", "docs/starcraft.md"),
    ],
    "Algorithms": [
        *(f"docs/algorithms/{name}.md" for name in ("eoi", "lfo", "qmix", "qmix_rnn")),
        *(f"docs/algorithms/{name}.md" for name in ("maac", "ppo", "kl")),
        "docs/algorithms/*.md",
    ],
    "Results": [
        *("results/README.md", "docs/results.md", "docs/figures.md"),
        *("docs/studies/*.md", "docs/report.md"),
    ],
    "Your own world": ["docs/own-world.md"],
    "Your own algorithm": ["docs/own-algorithm.md"],
    "Start here": [
        *("README.md", "docs/watching.md", "docs/search.md", "docs/code.md"),
        *("docs/*.md", "CHANGELOG.md"),
    ],
}
ORDER = ["Start here", *(name for name in SECTIONS if name != "Start here")]
REPORT = ROOT / "results" / "evidence" / "windy_maze_eoi.csv.gz"  # of docs/algorithms/eoi.md
_EMBEDDED = pathlib.Path("results", "report.md")  # the page of its report
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(?<=\]\()[^()\s]+(?=\))|(?<=<img src=")[^"]+')
_MARKER = ".eoi-site"  # in the folder of a site, which the next one may replace


def sections() -> dict[str, list[pathlib.Path]]:
    """The pages of each section, relative to the repository, in the order of the navigation."""
    found: dict[str, list[pathlib.Path]] = {}
    taken: set[pathlib.Path] = set()
    for name, patterns in SECTIONS.items():
        every = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        found[name] = [path for path in dict.fromkeys(every) if path not in taken]
        taken.update(every)
    return {name: [path.relative_to(ROOT) for path in found[name]] for name in ORDER}


def title(page: pathlib.Path) -> str:
    """First heading of a page of the repository."""
    heading = re.search(r"^# (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert heading is not None, f"{page} has no heading"
    return heading[1]


def place(page: pathlib.Path) -> pathlib.Path:
    """A page's place on the site: a README is the first page of its folder."""
    return page.with_name("index.md") if page.name == "README.md" else page


def modules() -> list[str]:
    """Names of the package's modules, `eoi` first."""
    every = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")]
    names = {path.with_suffix("").parts for path in every if path != pathlib.Path("eoi.py")}
    return sorted(".".join(("eoi", *parts)).removesuffix(".__init__") for parts in names)


def reference(module: str) -> pathlib.Path:
    """A module's place on the site."""
    return pathlib.Path("reference", f"{module}.md")


def links(text: str) -> Iterator[str]:
    """Targets of the links of a page, those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    yield from _LINK.findall(prose)


def is_elsewhere(target: str) -> bool:
    """Whether the link leads out of the repository."""
    return re.match(r"[a-z]+:", target) is not None


def target_on_site(page: pathlib.Path, target: str) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The place on the site that a link of a page means, and a file or folder to copy there.

    A folder is the page of its name, or the list of its files. Raises FileNotFoundError.
    """
    path = pathlib.Path(os.path.normpath(page.parent / target))
    if (ROOT / path).is_dir():
        beside = path.with_suffix(".md")
        return beside, None if (ROOT / beside).is_file() else path
    if not (ROOT / path).is_file():
        raise FileNotFoundError(f"{page}: no file {target}")
    if path.suffix == ".md":
        return place(path), None
    if path.parts[0] == "src" and path.suffix == ".py":
        name = ".".join(("eoi", *path.with_suffix("").parts[1:])).removesuffix(".__init__")
        return reference(name), None
    return path, path


def staged(page: pathlib.Path) -> tuple[str, set[pathlib.Path]]:
    """A page's text with links for the site, and the files that it links to."""
    copied: set[pathlib.Path] = set()

    def relinked(found: re.Match[str]) -> str:
        target, hash_, anchor = found[0].partition("#")
        if is_elsewhere(found[0]) or not target:
            return found[0]
        there, file = target_on_site(page, target)
        copied.update({file} if file else ())
        return f"{os.path.relpath(there, place(page).parent)}{hash_}{anchor}"

    parts = re.split(r"(^```.*?^```)", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = [part if k % 2 else _LINK.sub(relinked, part) for k, part in enumerate(parts)]
    return "".join(prose), copied


def navigation() -> list[dict[str, object]]:
    """The site's navigation; a section of one page is that page."""
    nav: list[dict[str, object]] = []
    for name, pages in sections().items():
        entries = [{title(page): str(place(page))} for page in pages]
        if name == "Results":
            entries.append({"A report of runs": str(_EMBEDDED)})
        nav.append({name: str(place(pages[0])) if len(pages) == 1 else entries})
    packages: dict[str, list[object]] = {}
    for module in modules():
        parts = module.split(".")
        in_package = len(parts) > 2 or (ROOT / "src" / parts[-1]).is_dir()
        package = ".".join(parts[:2]) if in_package else "eoi"
        short = module.removeprefix(f"{package}.")
        packages.setdefault(package, []).append({short: str(reference(module))})
    return [*nav, {"Reference": [{name: pages} for name, pages in packages.items()]}]


def stage() -> None:
    """Writes the pages and Zensical's settings into STAGE."""
    import yaml  # not of Python itself: `main` explains its absence

    shutil.rmtree(STAGE, ignore_errors=True)
    files: set[pathlib.Path] = set()
    for page in (page for pages in sections().values() for page in pages):
        text, copied = staged(page)
        files |= copied
        write(STAGE / "pages" / place(page), text)
    for file in files:
        copy(file)
    for module in modules():
        write(STAGE / "pages" / reference(module), f"# {module}\n\n::: {module}\n")
    settings = yaml.safe_load((ROOT / "docs" / "site.yml").read_text())
    settings |= {"docs_dir": "pages", "nav": navigation()}
    write(STAGE / "mkdocs.yml", yaml.safe_dump(settings, sort_keys=False))


def copy(file: pathlib.Path) -> None:
    """Copies a file, or the files of a folder with a page that lists them."""
    if (ROOT / file).is_dir():
        names = sorted(path.name for path in (ROOT / file).iterdir() if path.is_file())
        lines = [f"- [{name}]({file.name}/{name})" for name in names]
        write(STAGE / "pages" / file.with_suffix(".md"), "\n".join([f"# {file}", "", *lines, ""]))
        for name in names:
            copy(file / name)
        return
    (STAGE / "pages" / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / file, STAGE / "pages" / file)


def embed_report() -> None:
    """The page with the report of a table of runs. Raises CalledProcessError."""
    folder = STAGE / "pages" / _EMBEDDED.parent
    words = [REPORT, "--play", "none", "--out", folder / "runs.html"]
    subprocess.run([sys.executable, ROOT / "src" / "report.py", *words], check=True)
    table = REPORT.relative_to(ROOT)
    text = f"""# A report of runs

`python src/report.py {table}` makes this page. It also opens [alone](runs.html).

<iframe src="runs.html" title="report" style="width: 100%; height: 85vh; border: 0"></iframe>
"""
    write(STAGE / "pages" / _EMBEDDED, text)


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def build(out: pathlib.Path) -> None:
    """Raises CalledProcessError if the site cannot be built."""
    stage()
    embed_report()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "-f", "mkdocs.yml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=STAGE, env=environment, check=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(STAGE / "site", out)
    (out / _MARKER).touch()


def replaceable(out: pathlib.Path) -> bool:
    """True for nothing, an empty folder, or an earlier site."""
    if not out.exists():
        return True
    return out.is_dir() and (not any(out.iterdir()) or (out / _MARKER).exists())


def serve(folder: pathlib.Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("localhost", 8000), handler) as server:
        print("http://localhost:8000, until Ctrl-C", flush=True)
        server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "site", help="default: site")
    parser.add_argument("--serve", action="store_true", help="show it at http://localhost:8000")
    options = parser.parse_args()
    if not importlib.util.find_spec("zensical"):
        command = shlex.join(["bash", f"{ROOT}/run.sh", "docs", *sys.argv[1:]])
        print(f"error: {sys.executable} has no zensical; type `{command}`", file=sys.stderr)
        return 2
    if not replaceable(options.out):
        print(
            f"error: --out {options.out}: holds files that are no site; name another folder",
            file=sys.stderr,
        )
        return 2
    try:
        build(options.out)
        print(options.out / "index.html")
        if options.serve:
            serve(options.out)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
