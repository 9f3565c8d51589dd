"""What a client knows of the workers of its app: who is there, which tasks they know, which queues they consume.

Before a canvas is sent for the first time, its tasks are compared with those that the workers know: a message that
nobody can run is an error here and now, and not one that is found in a worker's log.  What was found to be known is
not asked for again for `FRESH` seconds, so that it costs nothing for each message.
"""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.errors import NotRegistered, ServerLost
from nbcanvas.plan import Call
from nbcanvas.servers.urls import masked

from .sight import ASKED, Answers, Sight, Worker, sighted

if TYPE_CHECKING:
    from .app import App

__all__ = ["FRESH", "PATIENCE", "Fleet", "Heard"]

log = logging.getLogger("nbcanvas.app")

#: For so many seconds what workers said of themselves is taken for true.
FRESH: Final = 30.0
#: The same of the answer that nobody is there: somebody may be there in a moment.
_NOBODY: Final = 0.2
#: So long a worker that does not answer is taken for a busy one that may be anybody's.
_BUSY: Final = 60.0
#: So long a question waits for an answer.
PATIENCE: Final = 1.0
#: How much alike two names of tasks are when one may be meant by the other (difflib's ratio).
_CLOSE: Final = 0.8
#: A worker that does not answer is remembered for so many seconds.
REMEMBERED: Final = 300.0
#: So many workers, queues and tasks are named in one sentence.
_NAMED: Final = 3
#: What Celery and nbcanvas themselves bring along.
_BUILT_IN: Final = ("celery.", "nbcanvas.")

#: Called with what was asked, a worker's name and its answer, in another thread, as answers come.
Heard = Callable[[str, str, Any], None]


class Fleet:
    """The workers of one app.

    Parameters
    ----------
    app
        The app.

    Attributes
    ----------
    checks
        Whether tasks are compared before they are sent.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.checks = True
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._workers: tuple[float, Mapping[str, Worker]] | None = None
        #: Workers of nbcanvas's that were ever heard; and those that should be there and did not answer when last
        #: asked, each with since when.
        self._own: set[str] = set()
        self._silent: dict[str, float] = {}
        self._fine: dict[tuple[str, str], float] = {}
        self._said: set[str] = set()

    # -- asking -----------------------------------------------------------------------------------------------------

    def ask(
        self,
        commands: Sequence[str] = ASKED,
        *,
        destination: Collection[str] | None = None,
        timeout: float = PATIENCE,
        heard: Heard | None = None,
    ) -> dict[str, Answers]:
        """Ask workers several things at once; returns inspect command -> worker's name -> answer.

        Parameters
        ----------
        commands
            Names of inspect commands.
        destination
            Names of workers; everybody by default.
        timeout
            How long to wait for an answer, in seconds.
        heard
            Hears every answer as it comes.

        Raises
        ------
        ServerLost
            When the broker does not answer.
        """
        if not self._app.remote:  # the worker in this process answers at once
            told = [self._asked(command, destination, timeout, heard) for command in commands]
        else:
            with ThreadPoolExecutor(len(commands), thread_name_prefix="nbcanvas-inspect") as pool:
                asked = [pool.submit(self._asked, command, destination, timeout, heard) for command in commands]
            told = [one.result() for one in asked]
        now = monotonic()
        with self._lock:
            self._heard.update((name, now) for answers, missing in told for name in (*answers, *missing))
            if destination is None:
                answered = {name for answers, _ in told for name in answers}
                silent = {name for _, missing in told for name in missing} - answered
                self._silent = {name: self._silent.get(name, now) for name in silent}
        return {command: answers for command, (answers, _) in zip(commands, told, strict=True)}

    def _asked(
        self, command: str, destination: Collection[str] | None, timeout: float, heard: Heard | None
    ) -> tuple[Answers, Collection[str]]:
        arguments = {"taskinfoitems": ["version", "rate_limit", "ignore_result"]} if command == "registered" else {}
        to = None if destination is None else [*destination]
        told = self._app.control.ask(command, arguments, to, timeout=timeout)
        answers = {}
        for worker, answer in told:
            answers[worker] = answer
            if heard is not None:
                heard(command, worker, answer)
        return answers, told.missing

    def sight(
        self,
        *,
        timeout: float = PATIENCE,
        heard: Heard | None = None,
        commands: Sequence[str] = ASKED,
        kept: Mapping[str, Answers] | None = None,
    ) -> Sight:
        """Look at the whole cluster.

        Parameters
        ----------
        timeout, heard, commands
            As for `ask`.
        kept
            Answers to further commands that were asked before.
        """
        app = self._app
        trouble, answers = "", dict[str, Answers]()
        try:
            answers = self.ask(commands, timeout=timeout, heard=heard)
        except ServerLost as lost:
            trouble = str(lost)
        there = {name for told in answers.values() for name in told}
        for command, told in (kept or {}).items():
            answers.setdefault(command, {name: one for name, one in told.items() if name in there})
        if trouble:
            return self.seen(answers, trouble=trouble)
        found = self.seen(answers)
        app.broker.notice(queue for worker in found.workers for queue in worker.queues or ())
        try:
            return self.seen(answers, depths=app.broker.depth())
        except ServerLost as lost:
            return found._replace(trouble=str(lost))

    def seen(
        self, answers: Mapping[str, Answers], *, trouble: str = "", depths: Mapping[str, int] | None = None
    ) -> Sight:
        """Return what answers come to, with the workers that did not give one."""
        now = monotonic()
        with self._lock:
            self._heard = {name: at for name, at in self._heard.items() if now - at < REMEMBERED}
            known = [*self._heard]
        return sighted(self.server, time(), answers, known=known, depths=depths, trouble=trouble)

    @property
    def server(self) -> str:
        """The broker, without its password."""
        url = self._app.conf.broker_url
        first = url[0] if isinstance(url, list | tuple) and url else url
        return masked(str(first)) if self._app.remote and first else "this process"

    def workers(self, *, fresh: bool = False) -> Mapping[str, Worker]:
        """Return the workers there are, by name, as they were at most `FRESH` seconds ago.

        Parameters
        ----------
        fresh
            Ask in any case.
        """
        known = self._workers
        if known is None or fresh or monotonic() - known[0] > FRESH:
            found = self.seen({} if self._deserted() else self.ask(("registered", "active_queues", "stats")))
            known = self._workers = monotonic(), {one.name: one for one in found.workers if not one.silent}
            self._own.update(name for name, one in known[1].items() if one.kind == "nbcanvas")
        return known[1]

    def _deserted(self) -> bool:
        """Whether the broker, a Redis, says that nobody listens for commands: then no answer is waited for."""
        server = self._app.redis
        if server is None:
            return False
        from nbcanvas.broker.names import Names
        from nbcanvas.remote.mailbox import Mailbox

        conf = self._app.conf
        bound = f"{Names.of(conf).prefix}_kombu.binding.{Mailbox.of(conf).topic.name}"
        return not server.ask("EXISTS", bound)

    def all_ours(self) -> bool:
        """Say whether there are workers, and every one is nbcanvas's own.

        A server that does not answer is a no, and so is, for a minute, a worker that does not and was never heard: it
        may be one of Celery's, and busy.  One that was killed is bound for ever.
        """
        known = self._workers
        nobody = known is not None and not known[1] and monotonic() - known[0] > _NOBODY
        try:
            workers = self.workers(fresh=nobody).values()
        except ServerLost:
            return False
        ours = bool(workers) and all(worker.kind == "nbcanvas" for worker in workers)
        now = monotonic()
        return ours and all(now - since > _BUSY for name, since in self._silent.items() if name not in self._own)

    def others(self) -> bool:
        """Say whether there are workers besides nbcanvas's own, so far as is known; nobody is asked."""
        known = self._workers
        return known is not None and any(worker.kind != "nbcanvas" for worker in known[1].values())

    def ignores(self, task: str) -> bool:
        """Say whether a worker does not keep the results of a task, so far as is known; nobody is asked."""
        known = self._workers
        return known is not None and any(task in worker.ignored for worker in known[1].values())

    # -- comparing --------------------------------------------------------------------------------------------------

    def check(self, calls: Iterable[Call], *, again: bool = False) -> list[str]:
        """Compare the tasks of a canvas with those that the workers know.

        Parameters
        ----------
        calls
            Of the canvas.
        again
            Say also what was said before, and ask also for what was found to be known.

        Returns
        -------
        list of str
            What is worth saying: that nobody is there, that some do not know a task, that
            another version of it runs.

        Raises
        ------
        NotRegistered
            For a task that no worker knows which consumes its queue.
        """
        app = self._app
        if not app.remote or not self.checks:
            return []
        now = monotonic()
        routes: dict[tuple[str, str], Call] = {}
        seen: set[tuple[str, str, int]] = set()
        for call in calls:
            # Calls of one task with equal options go one way: a large canvas is looked at in milliseconds.
            key = (call.task, call.version, id(call.options))
            if key not in seen:
                seen.add(key)
                if not call.task.startswith(_BUILT_IN):
                    routes.setdefault((call.task, app.queue_of(call)), call)
        unsure = {pair: call for pair, call in routes.items() if again or self._fine.get(pair, 0.0) < now}
        if not unsure:
            return []
        try:
            notes = self._compare(unsure, self.workers())
            if notes is None:  # somebody may have come since
                notes = self._compare(unsure, self.workers(fresh=True)) or []
        except ServerLost as lost:  # whoever sends now says it better
            log.debug("the workers could not be asked: %s", lost)
            return []
        fresh = [note for note in notes if again or note not in self._said]
        self._said.update(fresh)
        return fresh

    def _compare(self, routes: Mapping[tuple[str, str], Call], workers: Mapping[str, Worker]) -> list[str] | None:
        """Return what is worth saying; None when something is missing and nobody was asked just now."""
        asked = self._workers
        just_now = asked is not None and monotonic() - asked[0] < 1.0
        notes = []
        told = {name: one for name, one in workers.items() if one.tasks is not None}
        if not told:
            if not just_now:
                return None
            return [f"no worker answers on {self.server}: what is sent waits until one is there"]
        for (task, queue), call in routes.items():
            consumers = {name: one for name, one in told.items() if one.queues is None or queue in one.queues}
            knowing = {name: one for name, one in consumers.items() if one.tasks is not None and task in one.tasks}
            if not just_now and not knowing:
                return None
            shipped = _ships(self._app, call)
            if not consumers:
                notes.append(f"nobody consumes queue {queue!r}: what is sent to it waits ({_known(told, task)})")
                continue
            if not knowing and not shipped:
                raise self._unknown(task, queue, consumers)
            lacking = sorted(set(consumers) - set(knowing))
            if lacking and not shipped:
                notes.append(f"{task}: {_and(lacking)} take from {queue!r} too, and do not know it: it fails there")
            notes += self._versions(task, knowing)
            self._fine[task, queue] = monotonic() + FRESH
        return notes

    def _versions(self, task: str, knowing: Mapping[str, Worker]) -> list[str]:
        here = self._app.tasks.versions.get(task, "")
        others = sorted(
            name for name, one in knowing.items() if here and (one.tasks or {}).get(task, here) not in {"", here}
        )
        if not others:
            return []
        runs = "runs another version" if len(others) == 1 else "run other versions"
        return [f"{task}: {_and(others)} {runs} of it than is defined here; restart what has old code"]

    def _unknown(self, task: str, queue: str, consumers: Mapping[str, Worker]) -> NotRegistered:
        names = {name for one in consumers.values() for name in one.tasks or {}}
        takes, does = ("takes", "does") if len(consumers) == 1 else ("take", "do")
        hint = f"{_and(sorted(consumers))} {takes} from {queue!r} and {does} not know it"
        near = _near(task, names)
        if near:
            hint += f": did you mean {' or '.join(map(repr, near))}?"
        else:
            hint += f"; known there: {_few(sorted(names))}" if names else ""
        ways = ["import its module there (-A, --include) and restart"]
        if task in self._app.tasks and any(one.kind == "nbcanvas" for one in consumers.values()):
            ways.append("ship it by value (connect with ship=True, --ship)")
        ways.append("send it unchecked (connect with check=False, --no-check)")
        return NotRegistered(task, f"{hint.rstrip('.')}{' ' if near else '. '}Ways out: {'; '.join(ways)}")

    def forget(self) -> None:
        """Know nothing any more: the next check asks."""
        with self._lock:
            self._workers = None
            self._silent = {}
            self._own.clear()
            self._heard.clear()
            self._fine.clear()
            self._said.clear()


def _near(task: str, names: Iterable[str]) -> list[str]:
    """Return the names that are meant, maybe: nearly the same, or the same in another module."""
    bare = task.rpartition(".")[2]
    same = sorted(name for name in names if name.rpartition(".")[2] == bare)
    close = difflib.get_close_matches(task, sorted(names), _NAMED, _CLOSE)
    last = {name.rpartition(".")[2]: name for name in sorted(names)}
    close += [last[name] for name in difflib.get_close_matches(bare, last, _NAMED, _CLOSE)]
    return list(dict.fromkeys([*same, *close]))[:_NAMED]


def _ships(app: App, call: Call) -> bool:
    """Whether the code of a call's task travels with it."""
    shipping = getattr(app, "shipping", None)
    return shipping is not None and shipping.ships(call.task, call.version)


def _known(workers: Mapping[str, Worker], task: str) -> str:
    knowing = sorted(name for name, one in workers.items() if task in (one.tasks or {}))
    if not knowing:
        return f"and none of {_and(sorted(workers))} knows {task}"
    queues = sorted({queue for name in knowing for queue in workers[name].queues or ()})
    return f"{task} is known to {_and(knowing)} on {_few(queues)}"


def _and(names: Sequence[str]) -> str:
    """Return names as a sentence has them, with the word for what they are."""
    word = "worker" if len(names) == 1 else "workers"
    return f"{word} {_few(names)}"


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "") if names else "nothing"
