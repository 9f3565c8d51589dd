"""Run the notebooks in static mode and save their outputs: the reference that ``pytest --nbval notebooks/`` compares.

Usage: ``python scripts/save_notebooks.py [NOTEBOOK ...]``; all of ``notebooks/`` by default.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def save(path: Path) -> None:
    """Execute one notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=40"],
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, path)


def main() -> None:
    """Save the notebooks named on the command line."""
    os.environ["NBCANVAS_DISPLAY"] = "static"
    named = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in named:
        save(path.resolve())
        print(f"saved {path}")


if __name__ == "__main__":
    main()
