"""Things that must not be in a queue or in a result, and are."""

from __future__ import annotations

import base64
import json
import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["CANARY", "documents", "envelopes"]

#: What code in a pickle would make, if anybody ran it.
CANARY = Path(tempfile.gettempdir()) / f"nbcanvas-was-here-{os.getpid()}"

HEADERS = {
    "lang": "py",
    "task": "add",
    "id": "ID",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "root_id": "ID",
    "parent_id": None,
    "argsrepr": "(1, 1)",
    "kwargsrepr": "{}",
    "origin": "gen1@here",
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
PROPERTIES = {
    "correlation_id": "ID",
    "reply_to": "",
    "delivery_mode": 2,
    "priority": 0,
    "body_encoding": "base64",
    "delivery_tag": "TAG",
    "delivery_info": {"exchange": "", "routing_key": "celery"},
}
#: Values of every other kind.
STRANGE: list[Any] = [None, True, 7, -1, 1e308, "", "text", [], [1, [2]], {}, {"a": {"b": 1}}, "\x00", "é" * 5, 10**30]


def text(body: Any) -> str:
    """Return a body as it travels."""
    return base64.b64encode(json.dumps(body).encode()).decode()


def envelope(body: Any = None, headers: Any = None, properties: Any = None, **more: Any) -> dict[str, Any]:
    """Return a message that is right where nothing else is said."""
    return {
        "body": text([[1, 1], {}, EMBED]) if body is None else body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": HEADERS if headers is None else headers,
        "properties": PROPERTIES if properties is None else properties,
        **more,
    }


def envelopes() -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of messages that nobody can work on."""
    yield from _raw()
    yield from _shaped()
    yield from _bodies()
    yield from _headers()


def _raw() -> Iterator[tuple[str, bytes]]:
    for name, data in {
        "nothing": b"",
        "a blank": b" ",
        "no JSON": b"{",
        "half": json.dumps(envelope()).encode()[:200],
        "bytes": bytes(range(256)),
        "zeros": b"\0" * 100,
        "not UTF-8": b'{"body": "\xff\xfe"}',
        "a pickle": pickle.dumps({"a": 1}),
        "two documents": b"{} {}",
        "NaN": b"NaN",
        "a BOM": b"\xef\xbb\xbf{}",
        "deep": b"[" * 50_000,
        "deep and closed": b"[" * 5000 + b"]" * 5000,
        "a huge number": b"1" * 5000,
        "a lone surrogate": b'{"body": "\\ud800"}',
        "repeated keys": b'{"body": 1, "body": 2}',
        "html": b"<html>",
        "a megabyte": b"x" * 1_000_000,
    }.items():
        yield f"raw: {name}", data
    for value in STRANGE:
        yield f"JSON: {value!r:.20}", json.dumps(value).encode()


def _shaped() -> Iterator[tuple[str, bytes]]:
    whole = envelope()
    for key in ("body", "headers", "properties"):
        without = {k: v for k, v in whole.items() if k != key}
        yield f"without {key}", json.dumps(without).encode()
    for key in ("body", "headers", "properties", "content-type", "content-encoding"):
        for value in STRANGE:
            harmless = (key == "content-encoding" and value in (None, "")) or (
                key == "content-type" and value in (None, "")
            )
            # Celery's own envelope reader takes these for what is usual; so may ours.
            if not harmless and not (key == "properties" and isinstance(value, dict)):
                yield f"{key}: {value!r:.20}", json.dumps({**whole, key: value}).encode()
    for kind in (
        "application/x-python-serialize",
        "application/x-yaml",
        "application/x-msgpack",
        "text/plain",
        "image/png",
    ):
        yield f"content type {kind}", json.dumps(envelope(**{"content-type": kind})).encode()
    evil = base64.b64encode(pickle.dumps(_Evil())).decode()
    yield (
        "a pickle that runs code",
        json.dumps(envelope(evil, **{"content-type": "application/x-python-serialize"})).encode(),
    )
    yield "unknown encoding", json.dumps(envelope(**{"content-encoding": "klingon"})).encode()
    for name in ("gzip", "application/x-gzip", "bzip2", "application/zstd", "nonsense"):
        yield (
            f"compression {name} that is none",
            json.dumps(envelope(headers={**HEADERS, "compression": name})).encode(),
        )
    yield "body encoding", json.dumps(envelope(properties={**PROPERTIES, "body_encoding": "rot13"})).encode()


class _Evil:
    def __reduce__(self) -> Any:
        return open, (str(CANARY), "w")


def _bodies() -> Iterator[tuple[str, bytes]]:
    bodies: dict[str, Any] = {f"{value!r:.20}": value for value in STRANGE}
    bodies |= {
        "two parts": [[1, 1], {}],
        "four parts": [[1], {}, {}, {}],
        "args as text": ["ab", {}, EMBED],
        "args as number": [1, {}, EMBED],
        "args as object": [{"a": 1}, {}, EMBED],
        "kwargs as list": [[1, 1], [], EMBED],
        "kwargs as text": [[1, 1], "x", EMBED],
        "embed as list": [[1, 1], {}, [1]],
        "embed as text": [[1, 1], {}, "x"],
    }
    for part in ("callbacks", "errbacks", "chain", "chord"):
        for value in (7, "text", {"task": 1}, [7], [{"task": None}], [[]], {"a": 1}, [{"kwargs": 1}]):
            bodies[f"{part}: {value!r:.25}"] = [[1, 1], {}, {**EMBED, part: value}]
    for name, body in bodies.items():
        yield f"body: {name}", json.dumps(envelope(text(body))).encode()
    for name, data in {
        "not base64": "%%%",
        "base64 of nothing": "",
        "base64 of bytes": base64.b64encode(b"\xff\xfe").decode(),
    }.items():
        yield f"body: {name}", json.dumps(envelope(data)).encode()


def _headers() -> Iterator[tuple[str, bytes]]:
    for name in ("priority", "body_encoding", "delivery_info"):
        endless = json.dumps(envelope(properties={**PROPERTIES, name: "ENDLESS"})).replace('"ENDLESS"', "1e999")
        yield f"{name}: 1e999", endless.encode()
    for name, values in {
        "task": [None, 7, [], {}, True],
        "id": [None, 7, [], {}],
        "eta": [7, "soon", [], "9999-99-99T00:00:00"],
        "expires": ["never", [], {}],
        "retries": ["x", [], {}, None],
        "timelimit": ["x", [1], 7, ["a", "b"], {}],
        "group": [7, [], {}],
        "group_index": ["x", [], {}],
        "stamped_headers": [7, "x", {}],
        "stamps": [7, "x", []],
        "root_id": [7, [], {}],
        "parent_id": [7, [], {}],
        "replaced_task_nesting": ["x", [], {}],
    }.items():
        for value in values:
            yield f"header {name}: {value!r}", json.dumps(envelope(headers={**HEADERS, name: value})).encode()
    for name in ("task", "id"):
        yield (
            f"without header {name}",
            json.dumps(envelope(headers={k: v for k, v in HEADERS.items() if k != name})).encode(),
        )


def document(**changes: Any) -> dict[str, Any]:
    """Return a result that is right where nothing else is said."""
    return {
        "status": "FAILURE",
        "result": {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"},
        "traceback": None,
        "children": [],
        "date_done": "2026-11-21T12:00:00+00:00",
        "task_id": "ID",
    } | changes


def documents() -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of results of failures, or of nothing that can be understood; none is a success."""
    for name, data in {
        "nothing": b"",
        "no JSON": b"{",
        "half": json.dumps(document()).encode()[:60],
        "bytes": bytes(range(256)),
        "NaN": b"NaN",
        "not UTF-8": b'{"status": "\xff"}',
        "a pickle": pickle.dumps({"status": "SUCCESS"}),
        "deep": b"[" * 50_000,
        "evil pickle": pickle.dumps(_Evil()),
    }.items():
        yield f"raw: {name}", data
    for value in STRANGE:
        yield f"JSON: {value!r:.20}", json.dumps(value).encode()
    for value in [None, 7, [], {}, "", True]:
        yield f"status {value!r}", json.dumps(document(status=value)).encode()
    yield "without status", json.dumps({k: v for k, v in document().items() if k != "status"}).encode()
    for value in STRANGE:
        yield f"FAILURE with {value!r:.20}", json.dumps(document(result=value)).encode()
    for module, name in [
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "GeneratorExit"),
        ("builtins", "BaseException"),
        ("builtins", "eval"),
        ("builtins", "int"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("asyncio", "CancelledError"),
        ("nowhere.at.all", "Error"),
        ("", ""),
        ("builtins", "no_such"),
        ("os", "path.join"),
        ("builtins", "__import__"),
        ("nbcanvas", "submit"),
        ("nbcanvas.app.app", "App"),
        ("asyncio.exceptions", "CancelledError"),
        ("builtins", "type"),
        ("builtins", "UnicodeDecodeError"),
        ("builtins", "ExceptionGroup"),
        ("threading", "Thread"),
        ("builtins", "StopIteration"),
    ]:
        for arguments in ([], ["echo"]):
            failure = {"exc_type": name, "exc_message": arguments, "exc_module": module}
            yield f"{module}.{name}{tuple(arguments)}", json.dumps(document(result=failure)).encode()
    for key in ("exc_type", "exc_message", "exc_module"):
        for value in (None, 7, [], {}, [[]], {"a": 1}):
            failure = {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins", key: value}
            yield f"{key} {value!r}", json.dumps(document(result=failure)).encode()
    for key in ("children", "date_done", "traceback"):
        for value in (7, "x", {"a": 1}, [7], [[[7]]]):
            yield f"{key} {value!r}", json.dumps(document(**{key: value})).encode()
