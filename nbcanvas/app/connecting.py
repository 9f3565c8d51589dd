"""Going to a cluster and coming back: a new app with the same tasks, after a look whether its servers are there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nbcanvas.errors import AccessRefused, NBCanvasError, ServerLost
from nbcanvas.servers.urls import is_redis, masked

from .app import App, current_app
from .profiles import Target, has_password, is_loopback, target
from .sight import Worker

__all__ = ["astray", "connect", "disconnect", "hello", "worries"]

log = logging.getLogger("nbcanvas.app")

#: Asked for to see whether the result backend is there.
_NOBODY: Final = "nbcanvas-nobody"
#: So many workers are named in one sentence.
_NAMED: Final = 3


def connect(
    to: str | Target | None = None,
    backend: str | None = None,
    *,
    app: App | None = None,
    check: bool = True,
    ship: bool | None = None,
    signing_key: str | Path | None = None,
    **settings: Any,
) -> App:
    """Send what is run from now on to a cluster: nbcanvas's own workers, Celery's, or both.

    Parameters
    ----------
    to
        A URL (``redis://host:6379/0``, ``amqp://host//``), or the name of a profile in ``[tool.nbcanvas.profiles]``.
        Without it ``NBCANVAS_BROKER_URL`` or ``CELERY_BROKER_URL`` counts, then the profile ``default``.
    backend
        The URL of the result backend, in place of what the profile says.
    app
        Whose tasks and settings to take; the current app by default.
    check
        Compare the tasks of a canvas with those the workers know before it is sent.
    ship
        Send tasks that are defined in cells by value, signed, to workers that allow it.
    signing_key
        The file of the key for that; ``NBCANVAS_SIGNING_KEY`` holds it by default.
    **settings
        Further settings.

    Returns
    -------
    App
        The new current app, with the same tasks.  Runs that were started go on where they are.

    Raises
    ------
    ServerLost
        When the broker or the result backend does not answer; then nothing has changed.
    ImproperlyConfigured
        When what was given cannot be understood.
    """
    before = app if app is not None else current_app()
    found = to if isinstance(to, Target) else target(to, backend)
    conf = {**found.conf(), **settings}
    made = before.connected(conf.pop("broker_url"), conf.pop("result_backend"), **conf)
    try:
        _ping(made)
        if found.ship if ship is None else ship:
            from .shipped import Shipping
            from .shipped import signing_key as key_of

            made.shipping = Shipping(made, key_of(signing_key or found.signing_key_file))
    except BaseException:
        _back_to(before, made)
        raise
    before.leave()
    made.fleet.checks = check
    for worry in worries(made):
        log.warning("%s", worry)
    return made


def disconnect(app: App | None = None) -> App:
    """Run what follows in this process again, on the embedded worker; runs on the cluster go on there.

    Parameters
    ----------
    app
        The app that is connected; the current one by default.

    Returns
    -------
    App
        The new current app, with the same tasks.
    """
    before = app if app is not None else current_app()
    if not before.remote:
        return before
    before.leave()
    return before.connected()


def _back_to(before: App, made: App) -> None:
    for task in before.tasks.values():
        task.bind(before)
    before.set_current()
    made.close()


def _ping(app: App) -> None:
    """Ask both servers something small.

    Raises
    ------
    ServerLost
        Saying which one does not answer, and what to look at; `AccessRefused` when it does not let us in.
    """
    conf = app.conf
    for what, url, ask in (
        ("broker", conf.broker_url, app.broker.depth),
        ("result backend", conf.result_backend, lambda: app.backend.get(_NOBODY)),
    ):
        try:
            ask()
        except NBCanvasError as error:
            name = masked(str(url)) if url else f"of {masked(str(conf.broker_url))}"
            said = str(error).removeprefix(f"the {what} ").removeprefix(f"{name}: ")
            told = said if said.startswith(f"{name} ") else f"{name} does not answer ({said})"
            if isinstance(error, AccessRefused):
                raise AccessRefused(f"the {what} {told}") from None
            raise ServerLost(f"the {what} {told}: is it started, and are host, port and TLS right?") from None


# -- who is there -----------------------------------------------------------------------------------------------------


def hello(app: App) -> str:
    """Say in one line who is there: workers by kind, their slots and their queues."""
    workers = [*app.fleet.workers(fresh=True).values()]
    if not workers:
        return "no worker answers: what is sent waits until one is there"
    kinds = Counter(map(_kind, workers))
    said = f"{len(workers)} ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})"
    slots = sum(one.slots or 0 for one in workers)
    queues = sorted({queue for one in workers for queue in one.queues or ()})
    return (
        f"{said} with {slots} slot{'s' * (slots != 1)}"
        + (f" on {'queue' if len(queues) == 1 else 'queues'} {', '.join(queues[:8])}" if queues else "")
        + (f" and {len(queues) - 8} more" if len(queues) > 8 else "")
    )


def _kind(worker: Worker) -> str:
    return {"celery": "Celery", "": "other"}.get(worker.kind, worker.kind)


def worries(app: App) -> list[str]:
    """Return what somebody should know of the servers of an app: a Redis that is open, or that throws things away."""
    conf, found = app.conf, []
    for url in dict.fromkeys(filter(None, (conf.broker_url, conf.result_backend))):
        open_ = isinstance(url, str) and is_redis(url) and not is_loopback(url) and not has_password(url)
        if open_ and not (conf.redis_password or conf.broker_password):
            found.append(
                f"{masked(url)} is on another machine and has no password: who reaches it can run code on the workers"
            )
    server = app.redis
    try:
        memory = {} if server is None else _facts(server.call("INFO", "memory"))
    except NBCanvasError as error:  # a user who may not ask
        log.debug("maxmemory is not known: %s", error)
        return found
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
        found.append(
            f"{masked(str(conf.broker_url))} has maxmemory-policy {policy}: when its memory is full, it throws away "
            f"messages and results; noeviction refuses new ones instead"
        )
    return found


def astray(app: App) -> list[str]:
    """Return which workers keep no results, or keep them where this app does not look for them; workers are asked."""
    workers = app.fleet.workers()
    if not workers:
        return []
    broker = str(app.conf.broker_url)
    mine = str(app.conf.result_backend or (broker if is_redis(broker) else "rpc://"))
    found: dict[str, list[str]] = {}
    for name, conf in app.fleet.ask(("conf",), destination=[*workers])["conf"].items():
        theirs = conf.get("result_backend") if isinstance(conf, Mapping) else None
        if isinstance(theirs, str) and not theirs.startswith("disabled"):
            where = f"in {masked(theirs)}" if _elsewhere(mine, theirs) else ""
        else:
            where = "nowhere (no result_backend)" if name in workers and workers[name].kind == "celery" else ""
        if where:
            found.setdefault(where, []).append(name)
    said = f"looked for in {masked(mine)}; what runs there is not heard of"
    return [f"{_few(names)}: results are kept {where}, and {said}" for where, names in found.items()]


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _elsewhere(mine: str, theirs: str) -> bool:
    """Whether two result backends are surely not the same: a server may have several names, but not several kinds."""
    one, other = (urlsplit(url) for url in (mine, theirs))
    if is_redis(mine) and is_redis(theirs):
        same = one.netloc.rpartition("@")[2] == other.netloc.rpartition("@")[2]
        return same and (one.path.strip("/") or "0") != (other.path.strip("/") or "0")
    return one.scheme.partition("+")[0] != other.scheme.partition("+")[0]


def _facts(told: bytes) -> dict[str, str]:
    """Return what ``INFO`` says."""
    return dict(line.split(":", 1) for line in told.decode("utf-8", "replace").splitlines() if ":" in line)
