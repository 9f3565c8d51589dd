"""Where a worker's words go."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["level_of", "set_up"]

_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
#: What every record has; what else one has was said by whoever logged it.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS: Final = {"WARNING": "\x1b[1;33m", "ERROR": "\x1b[1;31m", "CRITICAL": "\x1b[1;31m"}


class JSONLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=repr, ensure_ascii=False)


class _Coloured(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = _COLOURS.get(record.levelname)
        return f"{colour}{text}\x1b[0m" if colour else text


def level_of(name: str) -> int:
    """Return a level by its name or number.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    if name.isdigit():
        return int(name)
    if name.upper() not in _LEVELS:
        msg = f"there is no level {name!r}; choose one of {', '.join(_LEVELS)}"
        raise ValueError(msg)
    return int(logging.getLevelName(name.upper()))


def set_up(level: int, file: str | None, form: str, text: str | None, dates: str | None, *, colours: bool) -> None:
    """Send what is logged to a file or to standard error.

    Parameters
    ----------
    level
        The lowest level that is told.
    file
        The file; None for standard error.
    form
        ``"text"`` or ``"json"``.
    text, dates
        The setting ``worker_log_format``, ``worker_log_datefmt``.
    colours
        Whether warnings and errors are coloured (on a terminal).
    """
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    kind = _Coloured if colours and not file and sys.stderr.isatty() else logging.Formatter
    handler.setFormatter(JSONLines() if form == "json" else kind(text or _FORMAT, dates))
    root = logging.getLogger()
    if not root.handlers:  # whoever set up logging before us wanted it so
        root.addHandler(handler)
    else:
        logging.getLogger("nbcanvas").addHandler(handler)
        logging.getLogger("nbcanvas").propagate = False
    root.setLevel(min(level, root.level or level))
    logging.getLogger("nbcanvas").setLevel(level)
