"""Tab behind ``%%canvas`` and ``%canvas``: options, commands, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbcanvas.app import App, current_app
from nbcanvas.app.profiles import profiles
from nbcanvas.canvas import StampingVisitor
from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.run import Run
from nbcanvas.run.finding import known

from .connected import COMMANDS_TO_WORKERS
from .names import variables
from .options import ARGUMENTS, VIEWS
from .panel import COMMANDS, INSPECTIONS, POOLS

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Matcher", "matcher"]

#: ``%%canvas …``, ``%canvas …`` and ``x = %canvas …``, up to the cursor.
_LINE: Final = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?(?P<magic>%%?)canvas(?P<rest>\s.*)?$", re.DOTALL)

#: Runs of other kernels that are offered.
_OFFERED: Final = 50

Matcher = Callable[[CompletionContext], SimpleMatcherResult]


def matcher(session: Session) -> Matcher:
    """Return a matcher for the shell's completer."""

    @context_matcher()  # type: ignore[untyped-decorator]
    def canvas_matcher(context: CompletionContext) -> SimpleMatcherResult:
        found = _LINE.match(context.text_until_cursor)
        if found is None or found["rest"] is None or (found["magic"] == "%%" and context.cursor_line > 0):
            return SimpleMatcherResult(completions=[])
        words = found["rest"].split()
        fragment = "" if found["rest"][-1].isspace() else words.pop()
        offered = _in_cell(session, words, fragment) if found["magic"] == "%%" else _in_line(session, words, fragment)
        texts = [text for text in offered if text.startswith(fragment)]
        return SimpleMatcherResult(
            completions=[SimpleCompletion(text, type="param") for text in texts],
            suppress=True,
            matched_fragment=fragment,
            ordered=True,
        )

    found: Matcher = canvas_matcher
    return found


def _in_cell(session: Session, words: list[str], fragment: str) -> Iterable[str]:
    option = words[-1] if words else ""
    values = _values(session).get(option)
    if values is not None:
        return values()
    if fragment and not fragment.startswith("-"):
        return ()
    once = {
        flag
        for flags, settings in ARGUMENTS
        if settings.get("action") != "append"
        for flag in flags
        if set(flags) & set(words)
    }
    return [flag for flags, _ in ARGUMENTS for flag in reversed(flags) if flag not in once]


def _in_line(session: Session, words: list[str], fragment: str) -> Iterable[str]:
    if not words:
        return COMMANDS
    command, *rest = words
    if rest and rest[-1] == "--pool":
        return POOLS
    behind: dict[str, tuple[Iterable[str], Iterable[str]]] = {  # what stands first, and what later or as an option
        "worker": (("start", "stop"), ("-c", "--concurrency", "--pool")),
        "inspect": (INSPECTIONS, ("--destination", "--timeout")),
        "control": (COMMANDS_TO_WORKERS, ("--destination", "--timeout")),
        "connect": (_profiles(), ("--backend", "--no-check", "--ship", "--signing-key")),
        "cluster": (("stop",), ()),
        "attach": (_runs(), ()),
        "cancel": (variables(session.namespace, Run), ("--terminate",)),
        "why": (variables(session.namespace, Run), ()),
        "revoke": ((), ("--stamp", "--terminate")),
    }
    first, later = behind.get(command, ((), ()))
    return later if rest or fragment.startswith("-") else first


def _values(session: Session) -> dict[str, Callable[[], Iterable[str]]]:
    """Return what can stand behind an option."""

    def of(kind: type) -> Callable[[], Iterable[str]]:
        return lambda: variables(session.namespace, kind)

    def nothing() -> Iterable[str]:
        return ()

    visitors, apps = of(StampingVisitor), of(App)
    return {
        "--view": lambda: VIEWS,
        "-V": visitors,
        "--visitor": visitors,
        "--app": apps,
        "-q": _queues,
        "--queue": _queues,
        **dict.fromkeys(("-o", "--out"), of(Run)),
        "--write": lambda: _files(".py"),
        **dict.fromkeys(("--record", "--replay"), lambda: _files(".json")),
        **dict.fromkeys(
            ("-f", "--frame", "-s", "--stamp", "--priority", "--countdown", "--expires", "--timeout", "--save"), nothing
        ),
    }


def _files(suffix: str) -> Iterable[str]:
    return sorted(path.name for path in Path.cwd().glob(f"*{suffix}"))


def _runs() -> Iterable[str]:
    """Return names and ids of runs that can be attached to, the latest first."""
    store = current_app().backend.runs
    found = [(run.name, run.id) for run in known()]
    found += [(line.name, line.id) for line in store.lines(_OFFERED)] if store is not None else []
    return dict.fromkeys(word for names in found for word in names if word)


def _profiles() -> Iterable[str]:
    """Return the names of profiles; a file that cannot be read has none to offer."""
    try:
        return profiles()[1]
    except ImproperlyConfigured:
        return ()


def _queues() -> Iterable[str]:
    app = current_app()
    named = {task.queue for task in app.tasks.values() if task.queue}
    return sorted({app.conf.task_default_queue, *named, *app.broker.depth()})
