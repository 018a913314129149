"""Size of a report's page, how long it takes to make, and how long Chromium takes to open it.

    python benchmarks/report.py RUNS ... [--repeats 5]

RUNS is anything that src/report.py takes. Needs playwright (requirements-dev.txt) and a Chromium.
The page is open when all that is in its window is drawn. Prints a row of docs/performance.md: the
median over the repeats, each in a fresh window.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import argparse
import importlib
import shutil
import statistics
import tempfile
import time

from eoi import report
from eoi.records.reader import find_runs
from eoi.utils.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "html[data-ready]"


def opened(page: pathlib.Path, repeats: int) -> list[float]:
    """Seconds in which each of the windows was ready."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise UserError(f"no browser: install one of {', '.join(BROWSERS)}")
    found: list[float] = []
    with importlib.import_module("playwright.sync_api").sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(repeats):
            context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
            window = context.new_page()
            begin = time.perf_counter()
            window.goto(page.as_uri())
            window.wait_for_selector(READY, state="attached")
            found.append(time.perf_counter() - begin)
            context.close()
        browser.close()
    return found


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder) / "report.html"
        begin = time.perf_counter()
        if code := report.main([*options.runs, "--play", "none", "--out", str(page)]):
            return code
        made = time.perf_counter() - begin
        seconds = statistics.median(opened(page, options.repeats))
        runs, size = len(find_runs(options.runs)), page.stat().st_size / 1e6
    print("| runs | MB | seconds to make | seconds to open |\n|---|---|---|---|")
    print(f"| {runs} | {size:.1f} | {made:.0f} | {seconds:.2f} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
