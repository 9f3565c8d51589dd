"""From the text of a cell to the signature it ends in."""

from __future__ import annotations

import ast
import itertools
import sys
import traceback
from types import CodeType, FrameType, TracebackType
from typing import Any

from nbcanvas.canvas import Signature
from nbcanvas.canvas.checks import not_a_signature

from .errors import CanvasSyntaxError, not_a_canvas, render_as

__all__ = ["evaluate", "fill_empty", "show_frames"]

_HINT = "write it as the last line: add.s(2, 2) | mul.s(8)"


def fill_empty(lines: list[str]) -> list[str]:
    """Give a cell of nothing but ``%%canvas`` an empty line below (an input transformer).

    IPython runs no cell magic without a body, and complains with an error that test runners do not see.
    """
    alone = lines and lines[0].split(maxsplit=1)[:1] == ["%%canvas"] and len(lines) == 1
    return [lines[0].rstrip("\n") + "\n", "\n"] if alone else lines


def evaluate(shell: Any, body: str, first_line: int = 2) -> Signature:
    """Run a cell's statements in the user's namespace and return the signature it ends in.

    Parameters
    ----------
    shell
        The InteractiveShell: its namespace, its magics and its memory of source are used.
    body
        The cell below the line ``%%canvas``.
    first_line
        The number of the body's first line in the cell as its author sees it.

    Raises
    ------
    NotASignature
        When it ends in anything else.
    CanvasSyntaxError
        With the line number that the author sees.
    """
    statements, last = _compiled(shell, body, first_line)
    namespace = shell.user_ns
    try:
        exec(statements, namespace)  # noqa: S102 - it is the user's own cell
        value = eval(last, namespace)  # noqa: S307 - likewise
    except BaseException as error:
        _show_own_frames(shell, error, last.co_filename)
        raise
    if not isinstance(value, Signature):
        raise not_a_signature(value, "the last line of the cell")
    return value


def _compiled(shell: Any, body: str, first_line: int) -> tuple[CodeType, CodeType]:
    """Compile a cell: its statements, and the expression it ends in."""
    # Blank lines in place of what stands above the code, so that line numbers are those of the cell (IPython would
    # drop blank lines the body begins with).
    blank = len(list(itertools.takewhile(lambda text: not text.strip(), body.splitlines())))
    above, body = "\n" * (first_line - 1 + blank), "".join(body.splitlines(keepends=True)[blank:])
    source = above + shell.transform_cell(body)
    number = _number(shell)
    filename = shell.compile.cache(source, shell.execution_count if number is None else number, raw_code=above + body)
    flags = shell.compile.flags
    try:
        module = shell.compile.ast_parse(source, filename)
        if not module.body:
            raise not_a_canvas("nothing", _HINT)
        last = module.body.pop()
        if not isinstance(last, ast.Expr):
            raise not_a_canvas(*_described(last))
        statements = compile(module, filename, "exec", flags, dont_inherit=True)
        return statements, compile(ast.Expression(last.value), filename, "eval", flags, dont_inherit=True)
    except SyntaxError as error:
        if "'await' outside" in error.msg:
            error.msg += "; a canvas cell is not a coroutine: await it in a cell above, and use its value here"
        raise CanvasSyntaxError(error, number) from None


def _number(shell: Any) -> int | None:
    """Return the number of the cell that runs: the shell's counter may be one ahead."""
    numbers = shell.compile._filename_map  # noqa: SLF001 - how IPython itself tells cells apart
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_filename in numbers:
            found: int = numbers[frame.f_code.co_filename]
            return found
        frame = frame.f_back
    return None


def _described(last: ast.stmt) -> tuple[str, str]:
    if isinstance(last, ast.Assign | ast.AnnAssign | ast.AugAssign):
        target = ast.unparse(last.targets[0] if isinstance(last, ast.Assign) else last.target)
        return f"an assignment to {target}", f"add a last line: {target}"
    if isinstance(last, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return f"the definition of {last.name}", "define tasks in a cell of their own, and " + _HINT
    word = {
        "For": "a loop",
        "While": "a loop",
        "If": "an if",
        "With": "a with",
        "Import": "an import",
        "ImportFrom": "an import",
        "Try": "a try",
        "Return": "a return",
    }.get(type(last).__name__, "a statement")
    return word, _HINT


def _show_own_frames(shell: Any, error: BaseException, filename: str) -> None:
    """Let an error of the user's code show the frames from the cell on, not those of the magic around it."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _file(trace.tb_frame) != filename:
        trace = trace.tb_next
    if trace is not None and not isinstance(error, SyntaxError):  # IPython shows that in its own way
        show_frames(shell, error, trace)


def show_frames(shell: Any, error: BaseException, trace: TracebackType) -> None:
    """Let an error show the frames of `trace` only."""
    if hasattr(error, "_render_traceback_"):
        return
    try:
        lines = shell.InteractiveTB.structured_traceback(type(error), error, trace)
    except Exception:  # noqa: BLE001 - whatever the pretty one stumbles over, the plain one is always there
        lines = traceback.format_exception(type(error), error, trace)
    render_as(error, lines)


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename
