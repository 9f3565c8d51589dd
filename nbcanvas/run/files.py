"""Files that are written whole or not at all, and that can be written when the time comes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["replace_file", "why_not_writable"]


def why_not_writable(path: Path) -> str | None:
    """Return why a file cannot be written there, and what to do; None when it can."""
    folder = path.parent
    if path.is_dir():
        return f"{path} is a folder; give the name of a file in it"
    if not folder.exists():
        return f"there is no folder {folder}; make it, or choose another place"
    if not folder.is_dir():
        return f"{folder} is a file, so nothing can be in it; choose another place"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written to; choose another place"
    return None


def replace_file(path: Path, text: str) -> None:
    """Write a file; whoever reads it meanwhile, or when this fails, finds what was there before."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):  # it may never have been there; the real reason is on its way
            new.unlink()
        raise
