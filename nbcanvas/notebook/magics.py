"""The magics ``%%canvas`` and ``%canvas``."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any, Final

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand, output_can_be_silenced
from IPython.core.magic_arguments import magic_arguments

from .cell import evaluate
from .errors import CellError, brief
from .options import parse, with_arguments
from .panel import run_line
from .session import NOTHING, Session

__all__ = ["CanvasMagics", "words_of"]

_EXPRESSION: Final = re.compile(r"\{[^{}]+\}|\$[A-Za-z_]\w*")


@magics_class
class CanvasMagics(Magics):
    """``%%canvas`` and ``%canvas`` of one shell.

    Parameters
    ----------
    session
        What stands behind them.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self.session = session

    @output_can_be_silenced
    @no_var_expand
    @line_cell_magic
    @magic_arguments()  # type: ignore[no-untyped-call, untyped-decorator]
    @with_arguments
    def canvas(self, line: str, cell: str | None = None) -> Any:  # numpydoc has no section for a magic's options
        """Build a canvas and run it (``%%canvas``), or ask and steer (``%canvas``).

        ::

            %%canvas -o total
            group(add.s(i, i) for i in range(100)) | tsum.s()

            %%canvas --wait 10 --stamp experiment=42
            chain(load.s("a.csv"), clean.s(), fit.s())

            %%canvas --dry-run
            chord([add.s(1, 1), add.s(2, 2)], tsum.s())

        The cell is Python and ends in a signature. It returns at once: -o binds the Run, and a live view stands in
        the output until a still picture takes its place.

        ::

            %canvas status                     what is connected, and what runs; so does %canvas alone
            %canvas worker start -c 4 --pool processes
            %canvas worker stop
            %canvas tasks                      the tasks, with their parameters
            %canvas runs                       the runs of this session
            %canvas last                       the latest run
            %canvas list                       the canvases kept by --save
            %canvas why [NAME]                 why a run is not done, or did not succeed
            %canvas attach ID|NAME             a run of this kernel, or of another one
            %canvas inspect active             reserved, scheduled, registered, revoked, stats, …; -d NAME,… -t SECONDS
            %canvas revoke ID|NAME             or --stamp KEY=VALUE, with --terminate
            %canvas cancel NAME                all that has not ended of a run, with --terminate
            %canvas connect URL|PROFILE        run on a cluster from now on; --backend, --ship, --no-check
            %canvas disconnect                 run in this process again
            %canvas cluster                    workers, queues and their tasks, live
            %canvas control pool_grow 2        tell workers; -d NAME,… names them
            %canvas shipped                    what goes along with tasks that are sent by value (connect --ship)

        In a line ``{expression}`` and ``$name``, as a word, stand for their values: ``%canvas revoke {run.id}``.

        Defaults come from %config NBCanvas and from [tool.nbcanvas] in pyproject.toml.
        """
        session = self.session
        with brief(bool(session.settings.short_errors)):
            words = words_of(line)
            if cell is None:
                return run_line(session, [self._meant(word) for word in words])
            options = parse(parser_of(self.canvas), words)
            if options.replay is not None:
                value = session.replay(options)
            else:
                value = session.canvas(evaluate(session.shell, cell), options)
            return None if value is NOTHING else value

    def _meant(self, word: str) -> str:
        """Return a word of a line; one that is an expression, and nothing else, becomes its value."""
        return str(self.session.shell.var_expand(word)) if _EXPRESSION.fullmatch(word) else word


def parser_of(magic: Any) -> argparse.ArgumentParser:
    """Return the parser that ``@magic_arguments()`` made for a magic."""
    parser: argparse.ArgumentParser = magic.parser
    return parser


def words_of(line: str) -> list[str]:
    """Split a line as a shell would.

    Raises
    ------
    CellError
        When a quote is not closed.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise CellError(f"{line.strip()!r}: {error}") from None
