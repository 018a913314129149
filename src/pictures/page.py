"""Episodes as one self-contained HTML page with a time slider."""

import base64
import html
import json
import pathlib
from collections.abc import Sequence

from eoi.envs.grid import RGB
from eoi.pictures.film import Shot, agent_colour

_TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def page(films: Sequence[Sequence[Shot]], title: str, fps: float) -> str:
    agents = range(len(films[0][0].actions))
    data = {
        "title": title,
        "fps": fps,
        "coloured": films[0][0].coloured,
        "colours": [_hex(agent_colour(i)) for i in agents],
        "legend": {word: _hex(colour) for word, colour in films[0][0].legend.items()},
        "episodes": [[_moment(shot) for shot in film] for film in films],
    }
    inside = json.dumps(data).replace("<", "\\u003c")  # so that no text in it ends the script
    return _TEMPLATE.read_text().replace("TITLE", html.escape(title), 1).replace("DATA", inside, 1)


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _moment(shot: Shot) -> dict[str, object]:
    return {
        "picture": "data:image/png;base64," + base64.b64encode(shot.png).decode(),
        "step": shot.step,
        "total": round(shot.total, 4),
        "actions": shot.actions,
        "recognised": [round(p, 4) for p in shot.recognised],
        "info": {name: [round(value, 4) for value in values] for name, values in shot.info.items()},
        "history": shot.history,
        "marks": {
            name: [[round(value, 4) for value in row] for row in rows]
            for name, rows in shot.marks.items()
        },
    }
