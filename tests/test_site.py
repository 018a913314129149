"""The documentation: its links, its navigation, and the site that is made of it."""

import functools
import json
import os
import pathlib
import re
import sys
import urllib.parse

import pytest

from scripts import site

ROOT = site.ROOT
PAGES = [page for pages in site.sections().values() for page in pages]


@functools.cache
def anchors(page: pathlib.Path) -> set[str]:
    """Anchors of a page's headings: lower case, without punctuation, dashes for spaces."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    words = [
        re.sub(r"[^\w\s-]", "", head).strip().lower()
        for head in re.findall(r"^#+ (.+)", text, re.M)
    ]
    return {re.sub(r"[-\s]+", "-", head) for head in words}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page) -> None:
    for link in site.links((ROOT / page).read_text()):
        if site.is_elsewhere(link):
            continue
        target, _, anchor = link.partition("#")
        there, _ = site.target_on_site(page, target) if target else (site.place(page), None)
        if anchor:
            (source,) = (each for each in PAGES if site.place(each) == there)
            assert anchor in anchors(source), f"{page}: no heading for {link}"


def test_links_are_found_in_prose_alone() -> None:
    text = "[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n![g](h.png) [i](https://j)\n"
    text += '<img src="k.gif" width="9">'
    assert list(site.links(text)) == ["b.md", "h.png", "https://j", "k.gif"]
    assert site.is_elsewhere("https://j") and not site.is_elsewhere("b.md")
    with pytest.raises(FileNotFoundError, match=r"docs/worlds.md: no file worlds/none.md"):
        site.target_on_site(pathlib.Path("docs/worlds.md"), "worlds/none.md")


def test_every_page_is_in_one_section() -> None:
    every = {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")}
    assert every <= set(PAGES) and len(PAGES) == len(set(PAGES))
    assert PAGES[0] == pathlib.Path("README.md")
    names = [
        "Start here",
        "Worlds",
        "Algorithms",
        "Results",
        "Your own world",
        "Your own algorithm",
    ]
    assert [next(iter(entry)) for entry in site.navigation()] == [*names, "Reference"]


def test_the_subject_comes_first_in_its_section() -> None:
    pages = {name: [page.stem for page in own] for name, own in site.sections().items()}
    assert pages["Algorithms"][0] == "eoi"
    assert pages["Worlds"][:3] == ["worlds", "pac-men", "windy-maze"]


def test_the_reference_has_every_module() -> None:
    assert {"eoi", "eoi.envs", "eoi.envs.pac_men", "eoi.main"} <= set(site.modules())
    assert "eoi.eoi" not in site.modules()
    shown = json.dumps(site.navigation()[-1])
    assert all(f'"{site.reference(module)}"' in shown for module in site.modules())


@pytest.mark.parametrize(
    ("page", "target", "there", "copied"),
    [
        ("README.md", "docs/worlds.md", "docs/worlds.md", None),
        ("docs/worlds/8m.md", "../../results/README.md", "results/index.md", None),
        (
            "docs/watching.md",
            "../src/components/diversity.py",
            "reference/eoi.components.diversity.md",
            None,
        ),
        ("docs/worlds/8m.md", "8m.png", "docs/worlds/8m.png", "docs/worlds/8m.png"),
        ("docs/watching.md", "worlds/", "docs/worlds.md", None),
        ("docs/watching.md", "../examples/", "examples.md", "examples"),
    ],
)
def test_where_a_link_leads_on_the_site(page, target, there, copied) -> None:
    found = site.target_on_site(pathlib.Path(page), target)
    assert [each and str(each) for each in found] == [there, copied]


def test_a_page_is_relinked_outside_of_code(tmp_path, monkeypatch) -> None:
    page = pathlib.Path("docs/page.md")
    text = "# T\n[a](../README.md#six-words) [b](../src/run.py)\n```\n[c](../README.md)\n```\n"
    text += '<img src="../film.gif" width="9">'
    (tmp_path / "docs").mkdir()
    (tmp_path / page).write_text(text)
    for name in ("README.md", "film.gif", "src/run.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(site, "ROOT", tmp_path)
    found, copied = site.staged(page)
    assert found == text.replace("[a](../README.md", "[a](../index.md").replace(
        "../src/run.py", "../reference/eoi.run.md"
    )
    assert copied == {pathlib.Path("film.gif")}


def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path, monkeypatch) -> None:
    pytest.importorskip("zensical")
    monkeypatch.setattr(sys, "argv", ["site.py", "--out", str(tmp_path / "site")])
    assert site.main() == 0
    made = tmp_path / "site"
    assert site.replaceable(made)
    assert "The emergence" in (made / "index.html").read_text()
    assert '<iframe src="runs.html"' in (made / "results" / "report.html").read_text()
    assert "eoi_qmix" in (made / "results" / "runs.html").read_text()
    assert "eq. 5" in (made / "reference" / "eoi.learners.eoi.html").read_text()
    search = (made / "search.json").read_text()
    assert "Windy Maze" in search and "eoi.learners.eoi" in search
    apart = ("404.html", "runs.html")
    pages = [path for path in made.rglob("*.html") if path.name not in apart]
    assert len(pages) >= len(PAGES) + len(site.modules())
    broken = []
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            path = urllib.parse.unquote(link)
            if not re.match(r"[a-z]+:|//", path) and not (page.parent / path).exists():
                broken.append(f"{os.path.relpath(page, made)}: {path}")
    assert not broken, broken[:5]


def test_a_python_without_the_sites_packages_names_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["site.py", "--out", "my site"])
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    assert site.main() == 2
    assert f"bash {ROOT}/run.sh docs --out 'my site'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["thesis.txt", "search.json"])
def test_a_folder_with_other_files_is_not_replaced(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: True)
    (tmp_path / name).write_text("mine")
    monkeypatch.setattr(sys, "argv", ["site.py", "--out", str(tmp_path)])
    assert site.main() == 2
    assert "name another folder" in capsys.readouterr().err
    assert (tmp_path / name).exists()
    (tmp_path / ".eoi-site").touch()
    assert site.replaceable(tmp_path)
