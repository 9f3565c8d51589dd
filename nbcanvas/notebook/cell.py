"""From the text of a cell to the signature it ends in."""

from __future__ import annotations

import ast
import traceback
from types import CodeType, FrameType, TracebackType
from typing import Any

from nbcanvas.canvas import Signature
from nbcanvas.canvas.checks import not_a_signature

from .errors import not_a_canvas, render_as

__all__ = ["evaluate"]

_HINT = "write it as the last line: add.s(2, 2) | mul.s(8)"


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
    SyntaxError
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
    # Blank lines in place of what stands above the body, so that line numbers are those of the cell.
    above = "\n" * (first_line - 1)
    source = above + shell.transform_cell(body)
    filename = shell.compile.cache(source, shell.execution_count, raw_code=above + body)
    module = shell.compile.ast_parse(source, filename)
    if not module.body:
        raise not_a_canvas("nothing", _HINT)
    last = module.body.pop()
    if not isinstance(last, ast.Expr):
        raise not_a_canvas(*_described(last))
    statements = compile(module, filename, "exec", shell.compile.flags, dont_inherit=True)
    return statements, compile(ast.Expression(last.value), filename, "eval", shell.compile.flags, dont_inherit=True)


def _described(last: ast.stmt) -> tuple[str, str]:
    if isinstance(last, ast.Assign | ast.AnnAssign | ast.AugAssign):
        target = ast.unparse(last.targets[0] if isinstance(last, ast.Assign) else last.target)
        return f"an assignment to {target}", f"add a last line: {target}"
    if isinstance(last, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return f"the definition of {last.name}", "define tasks in a cell of their own, and " + _HINT
    word = {"For": "a loop", "While": "a loop", "If": "an if", "With": "a with", "Import": "an import",
            "ImportFrom": "an import", "Try": "a try"}.get(type(last).__name__, "a statement")
    return word, _HINT


def _show_own_frames(shell: Any, error: BaseException, filename: str) -> None:
    """Let an error of the user's code show the frames from the cell on, not those of the magic around it."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _file(trace.tb_frame) != filename:
        trace = trace.tb_next
    if trace is None or isinstance(error, SyntaxError) or hasattr(error, "_render_traceback_"):
        return  # not from the cell's code; a syntax error of an eval or an import is shown by IPython, as itself
    try:
        lines = shell.InteractiveTB.structured_traceback(type(error), error, trace)
    except Exception:  # noqa: BLE001 - whatever the pretty one stumbles over, the plain one is always there
        lines = traceback.format_exception(type(error), error, trace)
    render_as(error, lines)


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename
