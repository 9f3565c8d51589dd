"""Run the tour notebook and say what it did: what `make demo` does once everything is set up.

The cells run in a fresh kernel of this Python. The executed notebook and its html go to ``build/demo/``. What the
notebook says about itself is in the outputs of the cells tagged ``demo``: they are printed as they are, and nothing is
counted here. When a cell fails, its error is printed, what ran until then is kept, and the exit status is 1.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "tour.ipynb"
TARGET = ROOT / "build" / "demo"
SECONDS_A_CELL = 300


def main() -> int:
    """Execute the tour, write it, report. Returns the exit status."""
    if not TOUR.exists():
        print(f"{TOUR.relative_to(ROOT)} is not there", file=sys.stderr)
        return 1
    notebook = nbformat.read(TOUR, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    print(f"running {TOUR.relative_to(ROOT)}: {len(cells)} code cells", flush=True)
    begun = time.perf_counter()
    failure = execute(notebook)
    seconds = time.perf_counter() - begun
    written = write(notebook)
    if failure is None:
        for cell in cells:
            if "demo" in cell.metadata.get("tags", []):
                print(indented(text_of(cell)))
        print(f"ran {len(cells)} cells in {seconds:.1f} s, kernel start included")
    else:
        print(f"the tour FAILED after {seconds:.1f} s:\n{indented(failure)}", file=sys.stderr)
    for label, path in written.items():
        print(f"  {label:<10}{path.relative_to(ROOT)}")
    return 0 if failure is None else 1


def execute(notebook: NotebookNode) -> str | None:
    """Run every cell of `notebook` in place; return what failed, or None."""
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        iopub_timeout=SECONDS_A_CELL,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=40"],  # no warning that loopback is not encrypted
        store_widget_state=False,  # what stays is the still; a stored widget would ask the network for its script
        resources={"metadata": {"path": str(TOUR.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return str(error)
    return None


def write(notebook: NotebookNode) -> dict[str, Path]:
    """Write the executed notebook and its html; return where they are."""
    TARGET.mkdir(parents=True, exist_ok=True)
    written = {"notebook": TARGET / "tour.ipynb", "html": TARGET / "tour.html"}
    nbformat.write(notebook, written["notebook"])
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, {"metadata": {"name": "nbcanvas: the tour"}})
    written["html"].write_text(html, "utf-8")
    return written


def text_of(cell: NotebookNode) -> str:
    """Return what `cell` printed, and the plain text of what it displayed, in order."""
    parts = [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type in {"stream", "execute_result", "display_data"}
    ]
    return "\n".join(part.rstrip("\n") for part in parts if part.strip())


def indented(text: str) -> str:
    """Set `text` off from our own lines."""
    return "\n".join(f"  {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
