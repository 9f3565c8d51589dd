"""Run notebooks in static mode and save their outputs: the reference that ``pytest --nbval`` compares.

Usage: ``python -m nbcanvas.notebook.save NOTEBOOK.ipynb …``
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .errors import CellError
from .testing import ENVIRONMENT

__all__ = ["main", "save"]

#: Seconds that one cell may take.
TIMEOUT: Final = 600
#: What colours text, in a terminal.
_COLOUR: Final = re.compile(r"\x1b\[[\d;]*m")
#: The folder of a Python file; what stands before it may be a colour.
_FOLDER: Final = re.compile(r"(?:(?<![\w./~-])|(?<=\x1b\[\d\dm))~?/(?:[^/\s\"':\x1b]+/)+(?=[^/\s\"':\x1b]+\.py\b)")


def save(path: Path, timeout: float = TIMEOUT) -> None:
    """Execute one notebook from top to bottom, and save it with its outputs in its own place.

    Its metadata and the ids of its cells stay as they are.  A cell that is meant to fail has the tag
    ``raises-exception``; when another one fails, nothing is saved.

    Parameters
    ----------
    path
        The notebook; its folder is the working directory.
    timeout
        Seconds that one cell may take.

    Raises
    ------
    CellError
        When a cell fails, the file is no notebook, or nbclient is not installed.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellControlSignal
    except ImportError as error:
        raise CellError(f"saving a notebook needs {error.name}: pip install nbclient") from None
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise CellError(f"{path} cannot be read as a notebook: {error}") from None
    kept = dict(notebook.metadata)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        iopub_timeout=timeout,  # else outputs that come a few seconds after the cell's end would be lost
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        extra_arguments=["--IPKernelApp.log_level=40"],
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    try:
        client.execute(env={**os.environ, ENVIRONMENT: "static"})
    except CellControlSignal as error:  # a cell that failed, or took too long
        raise CellError(f"{path} is left as it was: {error}") from None
    notebook.metadata = nbformat.from_dict(kept)  # the kernel's version is no part of the reference
    _forget_folders(notebook)
    nbformat.write(notebook, path)


def _forget_folders(notebook: Any) -> None:
    """Let tracebacks name files without their folders, which are those of one machine (no runner compares them)."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                output.traceback = [_FOLDER.sub("", line) for line in output.traceback]


def main(words: Sequence[str] | None = None) -> int:
    """Save the notebooks named on the command line; return how it went, as a process does."""
    parser = argparse.ArgumentParser("python -m nbcanvas.notebook.save", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    for path in parser.parse_args(words).notebooks:
        try:
            save(path)
        except CellError as error:
            said = str(error) if sys.stderr.isatty() else _COLOUR.sub("", str(error))
            sys.stderr.write(f"{said}\n")
            return 1
        sys.stdout.write(f"saved {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
