"""Defaults of the notebook: ``%config NBCanvas``, ``[tool.nbcanvas]`` in pyproject.toml, a file of the user's.

What is nearer wins: an option on the line, then ``%config``, then the project's file, then the user's, then the
built-in default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from traitlets import Bool, Enum, Float, Int, TraitError, Unicode
from traitlets.config import Configurable

from nbcanvas.backend.urls import is_file, resolved
from nbcanvas.errors import ImproperlyConfigured

from .errors import CellError, UnknownOption
from .options import VIEWS

__all__ = ["DISPLAYS", "NBCanvas", "files"]

#: ``auto`` looks around (see `nbcanvas.notebook.testing`).
DISPLAYS: Final = ("auto", "live", "static", "text", "none")

#: Tables of ``[tool.nbcanvas]`` that others read.
OTHER_TABLES: Final = frozenset({"profiles"})


class NBCanvas(Configurable):
    """How ``%%canvas`` behaves when its options do not say."""

    view = Enum(VIEWS, "bars", help="What a canvas cell shows: bars, graph, timeline, table or none.").tag(config=True)
    display = Enum(DISPLAYS, "auto", help="How it shows it: auto, live, static, text or none.").tag(config=True)
    wait = Bool(False, help="Wait for each canvas and show its value.").tag(config=True)
    eager = Bool(False, help="Run each canvas in the thread of the cell.").tag(config=True)
    queue = Unicode(None, allow_none=True, help="Send to this queue.").tag(config=True)
    priority = Int(None, allow_none=True, help="Priority of the messages.").tag(config=True)
    countdown = Float(None, allow_none=True, help="Start each canvas so many seconds later.").tag(config=True)
    expires = Float(None, allow_none=True, help="Revoke what has not started after so many seconds.").tag(config=True)
    timeout = Float(None, allow_none=True, help="Hard time limit of each task, in seconds.").tag(config=True)
    concurrency = Int(
        None, allow_none=True, min=1, help="Slots of the embedded worker; None: as many as there are processors."
    ).tag(config=True)
    pool = Enum((None, "threads", "processes", "solo"), None, allow_none=True, help="Pool of the embedded worker.").tag(
        config=True
    )
    result_backend = Unicode(
        None, allow_none=True, help="Where the current app keeps results, such as db+sqlite:///results.sqlite."
    ).tag(config=True)
    short_errors = Bool(True, help="Show errors in a few lines, without nbcanvas's own frames.").tag(config=True)
    tracebacks = Int(4, help="How many of a run's failures are shown.").tag(config=True)

    def read_files(self, start: Path | None = None) -> None:
        """Take defaults from the user's file and the project's, the project's over the user's.

        Parameters
        ----------
        start
            Where to look upward from for a pyproject.toml; the working directory by default.

        Raises
        ------
        UnknownOption
            For a key that is no setting, naming the file and the nearest one.
        CellError
            For a file that cannot be read, or a value that a setting cannot have.
        """
        chosen = self.config.get(type(self).__name__, {})
        for path, values in files(start or Path.cwd()):
            for key, value in values.items():
                if key in OTHER_TABLES:
                    continue
                if key not in self.traits(config=True):
                    error = UnknownOption.of(
                        "setting", key, self.trait_names(config=True), "%config NBCanvas lists them"
                    )
                    raise UnknownOption(f"{path}: {error}")
                if key in chosen:
                    continue
                try:
                    setattr(self, key, _at(path, value) if key == "result_backend" else value)
                except (TraitError, ImproperlyConfigured) as refused:
                    raise CellError(f"{path}: {key}: {refused}") from None


def _at(file: Path, url: Any) -> Any:
    """Return a URL that a file of settings gives: a path in it is relative to that file's folder."""
    return resolved(url, None, file.parent) if isinstance(url, str) and is_file(url) else url


def files(start: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the settings files that exist and what they say, the least important first."""
    user = Path.home() / ".config" / "nbcanvas.toml"
    if user.is_file():
        yield user, _read(user)
    for folder in (start, *start.parents):
        project = folder / "pyproject.toml"
        if project.is_file():
            found = _read(project).get("tool", {}).get("nbcanvas")
            if found is not None:
                yield project, found
                return


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CellError(f"{path}: {error}") from None
