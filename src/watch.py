"""Plays greedy episodes of a saved run: in the terminal, and as a GIF, an mp4 or an HTML page.

    python src/watch.py RUN [--episodes 1] [--seed 0] [--model best|last]
                        [--out FILE|gif|mp4|html] [--fps 4] [--step | --quiet]
    python src/watch.py RUN --skills [--seed 0] [--model best|last] [--out FILE.png]

RUN is the run's folder, a Sacred id (3 is results/sacred/3) or `latest`. FILE ends with .gif, .mp4
or .html; the HTML page has a time slider. --skills draws a film strip of each skill of each agent,
for runs whose agents have skills.
With --step, keys move through the episodes:
    right, left arrow (or n, b)   one step on or back
    down, up arrow (or ], [)      the next episode, the one before
    g, G                          the beginning of the episode, its end
    q                             quit
"""

from eoi.utils.start import launch

import contextlib
import os
import pathlib
import re
import shutil
import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Generator, Iterator, Sequence

from eoi.pictures import strips
from eoi.pictures.film import Films, Shot, agent_colour, shoot
from eoi.pictures.film_files import film_argument, film_file
from eoi.pictures.marks import as_text
from eoi.records.reader import only_run
from eoi.saved import film_path, load, title
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, add_saved_run, guarded, write_whole


def rate(text: str) -> float:
    number = float(text)
    if not 0 < number <= 50:
        raise ArgumentTypeError(f"must be above 0 and at most 50, got {text}")
    return number


def parser() -> Parser:
    result = Parser(__doc__)
    add_saved_run(result, episodes=1)
    result.add_argument(
        "--out",
        type=film_argument,
        metavar="FILE",
        help=".gif, .mp4 or .html, with --skills .png; a kind alone, such as mp4: in"
        " results/figures; default: gif",
    )
    result.add_argument("--fps", type=rate, default=4.0, help="frames a second; default: 4")
    how = result.add_mutually_exclusive_group()
    how.add_argument(
        "--step",
        action="store_true",
        help="go through the episodes with keys, and write no file unless --out asks for one",
    )
    how.add_argument(
        "--skills", action="store_true", help="film strips of all skills, as one picture"
    )
    how.add_argument(
        "--quiet", action="store_true", help="write the file and print its path, nothing else"
    )
    return result


def show(films: Films, fps: float) -> None:
    """Plays the films on a terminal that is tall enough; elsewhere prints the last frames.

    Then prints the result of each episode.
    """
    live = sys.stdout.isatty() and shutil.get_terminal_size().lines > len(
        screen(films[0][0], coloured=False)
    )
    for film in films:
        for shot in film if live else film[-1:]:
            lines = screen(shot, coloured=live)
            if live and shot is not film[0]:
                print(f"\x1b[{len(lines)}A", end="")  # back up over the frame before
            print("\n".join(f"{line}\x1b[K" if live else line for line in lines), flush=True)
            if live:
                time.sleep(1 / fps)
    for i, film in enumerate(films):
        print(f"episode {i + 1}: {ending(film)}")


KEYS = {"\x1b[C": 1, "n": 1, "l": 1, "\x1b[D": -1, "b": -1, "h": -1}
EPISODES = {"\x1b[B": 1, "]": 1, "\x1b[A": -1, "[": -1}


def step_through(films: Films, keys: Iterator[str]) -> None:
    """Shows one step, then the one that a key leads to, until q."""
    episode = at = 0
    while True:
        film = films[episode]
        lines = [
            *screen(film[at], coloured=True),
            f"episode {episode + 1} of {len(films)}: {ending(film)}"
            if film[at] is film[-1]
            else "",
        ]
        print("\x1b[H\x1b[J" + "\r\n".join(lines), flush=True)
        key = next(keys, "q")
        if key in ("q", "\x03", "\x04"):
            return
        if key in EPISODES:
            episode, at = min(max(episode + EPISODES[key], 0), len(films) - 1), 0
        elif key in ("g", "G"):
            at = 0 if key == "g" else len(film) - 1
        else:
            at = min(max(at + KEYS.get(key, 0), 0), len(film) - 1)


def pressed() -> Generator[str]:
    """Keys as they are pressed; a special key is several characters, which arrive together."""
    import termios  # only where there is a terminal
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSADRAIN)  # keeps the keys typed so far
        while found := os.read(terminal, 16).decode(errors="ignore"):
            yield from re.findall(r"\x1b\[[A-D]|.", found, re.DOTALL)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def screen(shot: Shot, coloured: bool) -> list[str]:
    """The world in characters, then a line for each agent: the same number at every step."""
    lines = [
        *(marked(shot.text) if coloured else shot.text).split("\n"),
        f"t = {shot.step}  return {shot.total:.4g}",
    ]
    for i, action in enumerate(shot.actions):
        name = painted(f"agent {i}", i) if coloured else f"agent {i}"
        p = (
            f"  p(i|o) {shot.recognised[i]:.2f} {'█' * round(20 * shot.recognised[i])}"
            if shot.recognised
            else ""
        )
        lines.append(f"{name}  {action:10}{p}  {as_text(shot.marks, i)}".rstrip())
    return lines


def marked(text: str) -> str:
    """The digits that stand for agents in their colours; a number after a colon is a quantity."""
    return re.sub(
        r":[\d.]+|\d",
        lambda found: found[0] if found[0][0] == ":" else painted(found[0], int(found[0])),
        text,
    )


def painted(text: str, agent: int) -> str:
    red, green, blue = agent_colour(agent)
    return f"\x1b[1;38;2;{red};{green};{blue}m{text}\x1b[0m"


def ending(film: Sequence[Shot]) -> str:
    """Return, length, recognition over the episode, and the world's own metrics."""
    last = film[-1]
    parts = [f"return {last.total:.4g}", f"{last.step} steps"]
    if last.recognised:
        every = [p for shot in film for p in shot.recognised]
        parts.append(f"mean p(i|o) {sum(every) / len(every):.2f}")
    parts += [
        f"{name} {' '.join(f'{value:.4g}' for value in values)}"
        for name, values in last.info.items()
    ]
    return ", ".join(parts)


def skills(folder: pathlib.Path, options: Namespace) -> None:
    """Draws the film strips of a run's skills."""
    if options.out and options.out.suffix.lower() != ".png":
        raise UserError(f"--out {options.out}: the name of a picture of skills ends with .png")
    env, learner, settings = load(folder, 1, options.model)
    with contextlib.closing(env):
        env, learner, settings = load(folder, strips.copies(learner), options.model)
    with contextlib.closing(env):
        picture = strips.draw(env, learner, options.seed, title(settings))
    path = options.out or film_path("skills", folder, settings, options.seed).with_suffix(".png")
    write_whole(path, lambda file: picture.save(file, format="PNG"))
    print(path)


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    if options.skills:
        skills(only_run(options.run), options)
        return
    target = film_file("--out", options.out or pathlib.Path("gif"))
    if options.step and not sys.stdin.isatty():
        raise UserError("--step: reads keys; start it in a terminal, with no pipe to its input")
    folder = only_run(options.run)
    env, learner, settings = load(folder, options.episodes, options.model)
    with contextlib.closing(env):
        films = shoot(env, learner, options.seed, settings.run.t_max)
    if len(films) < options.episodes:
        print(f"note: {len(films)} episodes, as many as are played at once", file=sys.stderr)
    if options.step:
        with contextlib.closing(pressed()) as keys:
            step_through(films, keys)
        if not options.out:
            return
    default = film_path("watch", folder, settings, options.seed)
    path = target.write(films, title(settings), options.fps, default)
    if not options.quiet and not options.step:
        show(films, options.fps)
    print(path)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
