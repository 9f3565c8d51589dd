"""The Cluster view: workers, queues and the tasks that workers have, with what one can do about them.

One daemon thread asks the workers and tells the page, once a second at most: a complete, numbered snapshot, as the live
view of a run sends (see `nbcanvas.notebook.live`).  It asks only while a page says that somebody looks.  What somebody
wishes is carried out in a thread of its own, and what came of it is part of the next snapshot.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any, Final

from nbcanvas.app import App
from nbcanvas.app.sight import ASKED, Answers, Sight
from nbcanvas.errors import NBCanvasError
from nbcanvas.picture.cluster import cluster_model, cluster_picture
from nbcanvas.picture.markup import cut

from .live import Bundle, Publish

__all__ = ["PACE", "ClusterView"]

log = logging.getLogger("nbcanvas.notebook")

#: Seconds between two messages, at least.
PACE: Final = 1.0
#: Seconds between two messages, at most, while somebody looks.
REPEAT: Final = 5.0
#: Nobody has looked for so many seconds: the workers are left alone.
ALONE: Final = 15.0
#: What changes seldom is asked for so many times less often.
_SELDOM: Final = 10
_OFTEN: Final = tuple(command for command in ASKED if command not in {"stats", "registered"})
#: So long an answer is waited for, and an answer to a command.
_PATIENCE: Final = 0.9
_REPLY: Final = 2.0
#: Characters of a name that a page may give.
_NAME: Final = 300


class ClusterView:
    """The view of one app's cluster.

    Parameters
    ----------
    app
        The app.
    publish
        Puts bundles into a cell's output.
    clocks
        Whether stills say when, and how long something takes.

    Attributes
    ----------
    app
        See above.
    """

    def __init__(self, app: App, publish: Publish, *, clocks: bool = True) -> None:
        self.app = app
        self._fleet = app.fleet
        self._publish = publish
        self._clocks = clocks
        self._ids: list[str] = []
        self._lock = threading.Lock()
        self._speaking = threading.Lock()
        self._wake = threading.Event()
        self._widget: Any = None
        self._thread: threading.Thread | None = None
        self._kept: dict[str, Answers] = {}
        self._round = 0
        self._seq = 0
        self._said: dict[str, Any] = {"number": 0, "text": "", "ok": True}
        self._watched = monotonic()
        self._told: Mapping[str, Any] = {}
        self._spoke = 0.0
        self._over = False
        self._sight = self._look()

    @property
    def sight(self) -> Sight:
        """What was seen last."""
        return self._sight

    # -- showing ----------------------------------------------------------------------------------------------------

    def open(self, *, live: bool) -> None:
        """Show the view in the present cell; a second time shows the same one once more.

        Parameters
        ----------
        live
            Whether it moves; else only the still is shown.
        """
        bundle = self._still()
        if live and self._made() is not None:
            bundle["application/vnd.jupyter.widget-view+json"] = self._widget.view_spec()
            self._ids.append(uuid.uuid4().hex)
            self._publish(bundle, self._ids[-1], False)
            self._begin()
        else:
            self._publish(bundle, None, False)

    def _still(self) -> Bundle:
        return cluster_picture(self._sight, clocks=self._clocks)._repr_mimebundle_()

    def _made(self) -> Any:
        """Return the widget, or None where widgets cannot be had."""
        if self._widget is None:
            try:
                from .widgets import ClusterWidget, ControlModel

                control = ControlModel({"watch": lambda _: self.watch(), **dict.fromkeys(WISHES, self.wish)})
                self._widget = ClusterWidget(self._snapshot(), control, self._snapshot)
            except (ImportError, OSError) as missing:
                log.info("no widget for the cluster, a still instead: %s", missing)
        return self._widget

    def _begin(self) -> None:
        with self._lock:
            self._watched = monotonic()
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._loop, name="nbcanvas-cluster", daemon=True)
                self._thread.start()

    def watch(self) -> None:
        """Hear that somebody looks: at a view that is over only a page that did not hear of it."""
        if self._over and self._widget is not None:
            self._widget.tell()
        self._begin()

    @property
    def over(self) -> bool:
        """Whether it was stopped."""
        return self._over

    def stop(self) -> None:
        """Ask nobody any more, and put the still in place."""
        with self._lock:
            if self._over:
                return
            self._over = True
        self._wake.set()
        for shown in self._ids:
            self._publish(self._still(), shown, True)
        if self._widget is not None:
            with self._speaking:  # the last word
                self._widget.end(self._snapshot())

    # -- looking ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            with self._lock:
                if self._over or monotonic() - self._watched > ALONE:
                    self._thread = None
                    return
            begun = monotonic()
            try:
                self._sight = self._look()
                self._tell()
            except Exception:  # one look that fails must not end the view
                log.exception("the cluster cannot be looked at")
            self._wake.clear()
            if not self._over:
                self._wake.wait(max(PACE - (monotonic() - begun), 0.1))

    def _look(self) -> Sight:
        commands: Sequence[str] = ASKED if self._round % _SELDOM == 0 else _OFTEN
        self._round += 1
        kept: dict[str, dict[str, Any]] = {}

        def heard(command: str, worker: str, answer: Any) -> None:
            kept.setdefault(command, {})[worker] = answer

        seldom = {command: told for command, told in self._kept.items() if command not in commands}
        sight = self._fleet.sight(timeout=_PATIENCE, commands=commands, kept=seldom, heard=heard)
        self._kept.update(kept)
        return sight

    def _tell(self) -> None:
        model = asdict(cluster_model(self._sight))
        news = {**model, "at": 0, "said": self._said}
        now = monotonic()
        if self._widget is None or (news == self._told and now - self._spoke < REPEAT):
            return
        self._told, self._spoke = news, now
        with self._speaking:
            if not self._over:
                self._widget.snapshot = self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            self._seq += 1
            seq = self._seq
        return {
            **asdict(cluster_model(self._sight)),
            "said": self._said,
            "seq": seq,
            "over": self._over,
            "every": REPEAT,
        }

    # -- what somebody wishes ---------------------------------------------------------------------------------------

    def wish(self, content: Mapping[str, Any]) -> None:
        """Carry out what somebody clicked (in a thread of its own)."""
        do = str(content.get("do"))
        if self._over:
            self.watch()
        elif do == "stop":
            threading.Thread(target=self.stop, name="nbcanvas-cluster-stop", daemon=True).start()
        elif do in WISHES:
            threading.Thread(
                target=self._carry_out, args=(do, content), name="nbcanvas-cluster-wish", daemon=True
            ).start()

    def _carry_out(self, do: str, content: Mapping[str, Any]) -> None:
        try:
            text, ok = WISHES[do](self.app, content)
        except (NBCanvasError, ValueError) as error:
            text, ok = str(error), False
        except Exception:
            log.exception("%s failed", do)
            text, ok = "it failed; the log says why", False
        self._said = {"number": self._said["number"] + 1, "text": cut(text, 300), "ok": ok}
        self._round = 0  # what changes seldom may just have changed
        self._wake.set()
        self._begin()


def _name(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > _NAME:
        msg = f"{key} is missing, or none that could be meant"
        raise ValueError(msg)
    return value.strip()


def _replies(told: Sequence[Mapping[str, Any]] | None, nobody: str) -> tuple[str, bool]:
    """Return what workers answered to a command, as one sentence, and whether all went well."""
    said, ok = [], True
    for reply in told or ():
        for worker, answer in reply.items():
            good = isinstance(answer, Mapping) and "error" not in answer
            ok = ok and good
            said.append(f"{worker}: {next(iter(answer.values()), 'done') if isinstance(answer, Mapping) else answer}")
    return ("; ".join(said), ok) if said else (nobody, False)


def _to_one(app: App, content: Mapping[str, Any], command: str, *arguments: Any) -> tuple[str, bool]:
    worker = _name(content, "worker")
    how: dict[str, Any] = {"destination": [worker], "reply": True, "timeout": _REPLY}
    return _replies(getattr(app.control, command)(*arguments, **how), f"{worker} did not answer")


def _revoke(app: App, content: Mapping[str, Any]) -> tuple[str, bool]:
    task_id, terminate = _name(content, "id"), content.get("terminate") is True
    app.control.revoke(task_id, terminate=terminate)
    return f"{task_id[:8]} is {'terminated' if terminate else 'revoked'}", True


def _limit(app: App, content: Mapping[str, Any]) -> tuple[str, bool]:
    task, limit = _name(content, "task"), _name(content, "limit")
    told = app.control.rate_limit(task, limit, reply=True, timeout=_REPLY)
    return _replies(told, "no worker answered")


#: What a page may ask for, beside ``watch`` and ``stop``; each returns what came of it, and whether that is well.
WISHES: Final[dict[str, Callable[[App, Mapping[str, Any]], tuple[str, bool]]]] = {
    "grow": lambda app, content: _to_one(app, content, "pool_grow", 1),
    "shrink": lambda app, content: _to_one(app, content, "pool_shrink", 1),
    "add": lambda app, content: _to_one(app, content, "add_consumer", _name(content, "queue")),
    "cancel": lambda app, content: _to_one(app, content, "cancel_consumer", _name(content, "queue")),
    "revoke": _revoke,
    "limit": _limit,
    "stop": lambda app, content: ("", True),
}
