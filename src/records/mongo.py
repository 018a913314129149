"""Pushes runs to MongoDB from their folders: entries that the database lacks are sent as soon as
it answers.

A push can be repeated: each document's id follows from the run's number, and the document is
replaced as a whole. The layout is that of Sacred's MongoObserver, so Omniboard shows it. A long
metric continues in further documents (`chunk` 1, 2, ...), far below MongoDB's limit of 16 MB.
"""

import datetime
import hashlib
import json
import logging
import os
import pathlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eoi.records.folder import OUTPUT, Follower, number
from eoi.records.record import Config
from eoi.utils.errors import UserError
from eoi.utils.locks import Lock
from eoi.utils.places import PIP
from eoi.utils.script import write_text
from eoi.utils.series import Entries

if TYPE_CHECKING:
    from bson import ObjectId

log = logging.getLogger(__name__)

VARIABLE = "EOI_MONGO"
CHUNK = 20_000  # entries of a metric in one document: under 1 MB
INTERVAL = 10.0  # seconds between pushes
PATIENCE = 4000  # milliseconds for a server that does not answer
LAST = 10.0  # seconds that the end of a run waits for its last push
_DATABASE = "sacred"


def address(text: str) -> tuple[str, str]:
    """URL and database of HOST, HOST:PORT, HOST:DB, HOST:PORT:DB or mongodb://...[/DB].

    Raises UserError.
    """
    if "://" in text:
        found = re.fullmatch(r"(mongodb(?:\+srv)?://[^/?]+)(?:/([^?]*))?(\?.*)?", text)
        if not found:
            raise UserError("--mongo: expected mongodb://HOST:PORT/DB")
        return f"{found[1]}/{found[3] or ''}", found[2] or _DATABASE
    found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d+))?(?::([A-Za-z_][\w-]*))?", text)
    if not found:
        raise UserError(
            f"--mongo {text}: expected HOST, HOST:PORT, HOST:PORT:DB or a mongodb:// address"
        )
    return f"mongodb://{found[1]}:{found[2] or 27017}/", found[3] or _DATABASE


class Database:
    """The collections `runs` and `metrics` of a database. It connects at the first push."""

    def __init__(self, text: str, patience: int = PATIENCE):
        try:
            import pymongo
            import pymongo.errors
        except ImportError:
            raise UserError(f"--mongo: pymongo is not installed; `{PIP} pymongo`") from None
        url, name = address(text)
        self.shown = re.sub(r"//[^@/]*@", "//", f"{url.rstrip('/')}/{name}")  # without a password
        limits: Any = {
            f"{kind}TimeoutMS": patience for kind in ("serverSelection", "connect", "socket")
        }
        try:
            self._client: Any = pymongo.MongoClient(url, connect=False, **limits)
        except (pymongo.errors.PyMongoError, ValueError) as error:
            raise UserError(f"--mongo {self.shown}: {error}") from None
        self.errors: tuple[type[Exception], ...] = (pymongo.errors.PyMongoError,)
        self.duplicate: type[Exception] = pymongo.errors.DuplicateKeyError
        self.runs, self.metrics = self._client[name]["runs"], self._client[name]["metrics"]

    def close(self) -> None:
        self._client.close()


class Pushed:
    """One run's folder, and how much of it the database has already."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._entries: dict[str, int] = {}  # pushed, of each metric
        self._run = ""

    def push(self, database: Database) -> None:
        """Sends the entries that the database lacks.

        Raises one of `database.errors`, UserError, OSError.
        """
        record, config, series = (
            _read(self.folder / f"{name}.json") for name in ("run", "config", "metrics")
        )
        identity = record.get("meta", {}).get("number")
        if not isinstance(identity, int):
            raise UserError(
                f"{self.folder}: its run.json has no number;"
                " it is of another program, or was never started"
            )
        references = [
            self._push_metric(database, identity, name, entry)
            for name, entry in sorted(series.items())
        ]
        document = run_document(identity, record, config, self.folder, references)
        digest = hashlib.sha256(repr(document).encode()).hexdigest()
        if digest != self._run:
            database.runs.replace_one({"_id": identity}, document, upsert=True)
            self._run = digest

    def _push_metric(
        self, database: Database, identity: int, name: str, entry: Entries
    ) -> dict[str, str]:
        total, before = len(entry["values"]), self._entries.get(name)
        if before != total:
            for first in range(0, total, CHUNK):
                if before is None or first + CHUNK > before:
                    document = metric_document(identity, name, entry, first)
                    database.metrics.replace_one({"_id": document["_id"]}, document, upsert=True)
            if before is None:  # a run resumed at an earlier checkpoint has fewer
                database.metrics.delete_many(
                    {"run_id": identity, "name": name, "chunk": {"$gt": (total - 1) // CHUNK}}
                )
            self._entries[name] = total
        return {"name": name, "id": str(_metric_id(identity, name, 0))}


def run_document(
    identity: int,
    record: Config,
    config: Config,
    folder: pathlib.Path,
    metrics: list[dict[str, str]],
) -> Config:
    """A run in the layout of Sacred's MongoObserver."""
    dates = {
        key: _date(record[key])
        for key in ("start_time", "stop_time", "heartbeat")
        if record.get(key)
    }
    rest = {key: value for key, value in record.items() if key not in ("_id", "resumed")}
    output = _tail(folder / "cout.txt")
    more = {
        "format": "MongoObserver-0.7.0",
        "info": {"metrics": metrics},
        "captured_out": output,
        "resumed": record.get("resumed", []),
    }
    return _document({"_id": identity, **rest, **dates, "config": config, **more})


def metric_document(identity: int, name: str, entry: Entries, first: int) -> dict[str, object]:
    """Entries `first` to `first + CHUNK` of a metric, in the layout of Sacred's MongoObserver."""
    part = slice(first, first + CHUNK)
    columns = {
        "steps": entry["steps"][part],
        "values": entry["values"][part],
        "timestamps": [_date(x) for x in entry["timestamps"][part]],
    }
    return {
        "_id": _metric_id(identity, name, first // CHUNK),
        "run_id": identity,
        "name": name,
        "chunk": first // CHUNK,
        **columns,
    }


def _metric_id(identity: int, name: str, chunk: int) -> "ObjectId":
    from bson import ObjectId  # here, because pymongo may be missing

    return ObjectId(hashlib.sha256(f"{identity}/{name}/{chunk}".encode()).digest()[:12])


def _date(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _document(entries: Mapping[object, object]) -> dict[str, object]:
    """The entries with keys that every server accepts."""
    return {
        str(key).replace(".", "_").replace("$", "_") or "_": _value(inner)
        for key, inner in entries.items()
    }


def _value(value: object) -> object:
    """A value of a document, whose own keys are accepted too."""
    if isinstance(value, dict):
        return _document(value)
    return [_value(inner) for inner in value] if isinstance(value, list) else value


def _tail(path: pathlib.Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - OUTPUT))
        return file.read().decode(errors="replace")


def _read(path: pathlib.Path) -> Config:
    if path.name == "metrics.json" and not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise UserError(f"{path}: damaged, not valid JSON") from None


def adopt(folder: pathlib.Path) -> None:
    """Gives a number to a run that was recorded before runs had one."""
    record = _read(folder / "run.json")
    if "number" not in record.setdefault("meta", {}):
        lock = Lock(folder)
        record["meta"]["number"] = number()
        write_text(folder / "run.json", json.dumps(record, sort_keys=True, indent=2))
        lock.release()


class Push(Follower):
    """Pushes a run's folder in a thread. The run waits only at its end, for a few seconds."""

    priority = 0  # after the folder

    def __init__(self, database: Database, interval: float = INTERVAL, last: float = LAST):
        self._database, self._interval, self._last = database, interval, last
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._pushed: Pushed | None = None
        self._down = False
        self.complete = False

    def observe(self, folder: pathlib.Path) -> None:
        """Starts pushing the folder."""
        self._pushed = Pushed(folder)
        self._thread = threading.Thread(target=self._work, daemon=True, name="mongo")
        self._thread.start()

    def completed_event(self, stop_time: object, result: object) -> None:
        self._finish()

    def interrupted_event(self, interrupt_time: object, status: object) -> None:
        self._finish()

    def failed_event(self, fail_time: object, fail_trace: object) -> None:
        self._finish()

    def _finish(self) -> None:
        self._over.set()
        self._wake.set()
        if self._thread and self._pushed:
            self._thread.join(self._last)
            if not self.complete:
                log.warning(
                    "warning: MongoDB lacks part of this run; push it with `python src/sync.py %s`",
                    self._pushed.folder,
                )

    def _work(self) -> None:
        while not self._over.is_set():
            self._try()
            self._wake.wait(self._interval)
        self.complete = self._try()
        self._database.close()

    def _try(self) -> bool:
        assert self._pushed is not None
        try:
            self._pushed.push(self._database)
        except (*self._database.errors, UserError, OSError, ValueError) as error:
            if not self._down:
                reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
                log.warning(
                    "warning: MongoDB at %s: %s; metrics wait on disk", self._database.shown, reason
                )
            self._down = True
            self._pushed = Pushed(self._pushed.folder)  # it is unknown which entries arrived
            return False
        if self._down:
            log.warning("MongoDB at %s is back; everything is pushed", self._database.shown)
        self._down = False
        return True


def chosen(text: str | None) -> str:
    return text if text is not None else os.environ.get(VARIABLE, "")


def observers(text: str | None) -> list[Push]:
    """The observer for --mongo, else for the environment variable. Raises UserError."""
    return [Push(Database(chosen(text)))] if chosen(text) else []
