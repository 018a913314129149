"""Fills the tables of pages with what src/plot.py prints.

    python scripts/fill_pages.py [--check] [PAGE ...]      default: all pages with such tables

A table stands between `<!-- python src/plot.py ... -->` and `<!-- end -->`. The command runs with
`--out FILE.md` added. --check changes nothing, and fails if a page is not up to date.
"""

import contextlib
import io
import pathlib
import re
import shlex
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from eoi import plot  # noqa: E402
from eoi.utils.errors import UserError  # noqa: E402

PAGES = [ROOT / "results" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_TABLE = re.compile(
    r"^<!-- python src/plot\.py (?P<words>[^\n]*?) -->\n(?s:.*?)^<!-- end -->$", re.MULTILINE
)


def filled(text: str) -> str:
    """The page with each table made anew."""
    return _TABLE.sub(
        lambda found: (
            f"<!-- python src/plot.py {found['words']} -->\n{made(found['words'])}<!-- end -->"
        ),
        text,
    )


def made(words: str) -> str:
    """The Markdown table of a command; its paths are relative to the repository."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        path = pathlib.Path(folder) / "table.md"
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            status = plot.main([*shlex.split(words), "--out", str(path)])
        if status:
            raise UserError(f"python src/plot.py {words}\n{quiet.getvalue()}")
        return f"\n{path.read_text()}\n"


def main(argv: list[str]) -> int:
    check = "--check" in argv
    pages = [pathlib.Path(word) for word in argv if word != "--check"] or PAGES
    stale = []
    for page in pages:
        text = page.read_text()
        new = filled(text)
        if new != text:
            stale.append(page)
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{page}: {'not up to date' if check else 'filled'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
