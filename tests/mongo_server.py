"""A small MongoDB for tests: its wire protocol over a real socket, documents in dictionaries.

The protocol is OP_MSG, and OP_QUERY for the first hello. It serves the requests of pymongo, GridFS
and Sacred's MongoObserver. `mode` makes it fail: `full` (refuses writes), `slow` (never answers),
`deaf` (drops a connection before it carries out a request) or `mute` (after it).
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import bson

_MSG, _QUERY, _REPLY = 2013, 2004, 1
LIMIT = 16 * 1024 * 1024


class Server:
    def __init__(self) -> None:
        self.data: dict[str, dict[Any, dict[str, Any]]] = {}  # "db.collection" -> _id -> document
        self.mode, self.writes, self.commands = "well", 0, 0
        self.largest = 0  # bytes of a document
        self.asked = threading.Condition()
        self.port = 0
        self._mutex = threading.Lock()
        self.start()

    def start(self) -> None:
        """Also again, on the same port and with the same data."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        self._up = True
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        self._up = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            _hang_up(connection)

    def documents(self, name: str) -> list[dict[str, Any]]:
        with self._mutex:
            return [
                bson.decode(bson.encode(document)) for document in self.data.get(name, {}).values()
            ]

    def wait_for_command(self, seconds: float = 20.0) -> None:
        """Until one more data command has been seen."""
        with self.asked:
            seen = self.commands
            assert self.asked.wait_for(lambda: self.commands > seen, seconds), "no command came"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while self._up:
                self._answer(connection)
        except (OSError, EOFError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        length, request, _, code = struct.unpack("<iiii", _read(connection, 16))
        body = _read(connection, length - 16)
        command = _message(body) if code == _MSG else _query(body)
        reply = self._handle(command)
        if reply is None:
            _hang_up(connection)
            raise EOFError
        document = bson.encode(reply)
        if code == _MSG:
            answer, kind = b"\0\0\0\0\0" + document, _MSG
        else:
            answer, kind = struct.pack("<iqii", 8, 0, 0, 1) + document, _REPLY
        connection.sendall(struct.pack("<iiii", 16 + len(answer), 0, request, kind) + answer)

    def _handle(self, command: dict[str, Any]) -> dict[str, Any] | None:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster", "ping", "endsessions", "buildinfo"):
            return _HELLO if self._up else None
        with self.asked:
            self.commands += 1
            mode = self.mode
            self.asked.notify_all()
            if mode == "slow":
                self.asked.wait_for(lambda: self.mode != "slow", 20)
                return None
        if mode == "deaf":
            return None
        if mode == "full" and name in ("insert", "update", "delete"):
            return {
                "ok": 0.0,
                "code": 14031,
                "codeName": "OutOfDiskSpace",
                "errmsg": "no space left",
            }
        with self._mutex:
            reply = getattr(self, f"_{name.lower()}")(
                self.data.setdefault(f"{command['$db']}.{command[name]}", {}), command
            )
        return None if mode == "mute" else {"ok": 1.0, **reply}

    def _store(self, collection: dict[Any, Any], document: dict[str, Any]) -> dict[str, Any] | None:
        size = len(bson.encode(document))
        self.largest = max(self.largest, size)
        if size > LIMIT:
            return {"index": 0, "code": 10334, "errmsg": "BSONObj size is invalid"}
        collection[document["_id"]] = document
        self.writes += 1
        return None

    def _insert(self, collection: Any, command: Any) -> dict[str, Any]:
        errors = []
        for index, document in enumerate(command["documents"]):
            if document["_id"] in collection:
                errors.append(
                    {
                        "index": index,
                        "code": 11000,
                        "errmsg": "E11000 duplicate key",
                        "keyValue": {},
                        "keyPattern": {},
                    }
                )
            elif error := self._store(collection, document):
                errors.append(error)
        return {
            "n": len(command["documents"]) - len(errors),
            **({"writeErrors": errors} if errors else {}),
        }

    def _update(self, collection: Any, command: Any) -> dict[str, Any]:
        reply: dict[str, Any] = {"n": 0, "nModified": 0}
        for index, update in enumerate(command["updates"]):
            found = list(_matching(collection, update["q"]))[: None if update.get("multi") else 1]
            created = not found and update.get("upsert")
            for document in found or ([{"_id": bson.ObjectId(), **update["q"]}] if created else []):
                if error := self._store(collection, _changed(document, update["u"])):
                    reply.setdefault("writeErrors", []).append(error)
                reply["n"] += 1
                if created:
                    reply.setdefault("upserted", []).append(
                        {"index": index, "_id": document["_id"]}
                    )
                else:
                    reply["nModified"] += 1
        return reply

    def _delete(self, collection: Any, command: Any) -> dict[str, Any]:
        gone = [d["_id"] for each in command["deletes"] for d in _matching(collection, each["q"])]
        for identity in gone:
            collection.pop(identity, None)
        return {"n": len(gone)}

    def _find(self, collection: Any, command: Any) -> dict[str, Any]:
        found = list(_matching(collection, command.get("filter", {})))
        for key, order in reversed(list(command.get("sort", {}).items())):
            found.sort(key=lambda d, k=key: str(d.get(k)), reverse=order < 0)
        return _cursor(found[: abs(command.get("limit", 0)) or None])

    def _aggregate(self, collection: Any, command: Any) -> dict[str, Any]:
        """As count_documents asks for it."""
        count = len(list(_matching(collection, command["pipeline"][0]["$match"])))
        return _cursor([{"_id": 1, "n": count}] if count else [])

    def _createindexes(self, collection: Any, command: Any) -> dict[str, Any]:
        return {"numIndexesBefore": 1, "numIndexesAfter": 2}

    def _listindexes(self, collection: Any, command: Any) -> dict[str, Any]:
        return _cursor([])


_HELLO = {
    "ok": 1.0,
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "maxBsonObjectSize": LIMIT,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "readOnly": False,
}


def _cursor(documents: list[Any]) -> dict[str, Any]:
    return {"cursor": {"id": 0, "ns": "x.y", "firstBatch": documents}}


def _matching(collection: dict[Any, Any], query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for document in list(collection.values()):
        if all(_fits(document.get(key), wanted) for key, wanted in query.items()):
            yield document


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and "$gt" in wanted:
        return value is not None and value > wanted["$gt"]
    return value == wanted


def _changed(document: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    if not any(key.startswith("$") for key in update):
        return {"_id": document["_id"], **update}
    new = dict(document) | update.get("$set", {})
    for key, value in update.get("$push", {}).items():
        new[key] = [*new.get(key, []), *value["$each"]]
    return new


def _message(body: bytes) -> dict[str, Any]:
    command: dict[str, Any] = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        (size,) = struct.unpack_from("<i", body, at)
        if kind == 0:
            command = {**bson.decode(body[at : at + size]), **command}
        else:
            end = body.index(b"\0", at + 4)
            command[body[at + 4 : end].decode()] = bson.decode_all(body[end + 1 : at + size])
        at += size
    return {
        next(k for k in command if k not in ("documents", "updates", "deletes")): None
    } | command


def _query(body: bytes) -> dict[str, Any]:
    return bson.decode(body[body.index(b"\0", 4) + 9 :])


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
