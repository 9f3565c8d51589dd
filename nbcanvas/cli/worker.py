"""``nbcanvas worker``: a worker of the cluster, with the options of Celery's."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import Empty
from typing import Any, Final

import click

from nbcanvas.app import App
from nbcanvas.errors import AccessRefused, NBCanvasError, ServerLost
from nbcanvas.worker.cluster import ClusterWorker
from nbcanvas.worker.processes.modules import UserModules

from .banner import banner
from .common import Given, app_of, common_options
from .finding import module_of
from .logs import level_of, set_up
from .process import AGAIN, COLD, WARM, Signals, detach, expanded, node_name, pid_file, start_anew

__all__ = ["worker"]

log = logging.getLogger("nbcanvas.worker")

_OVER: Final = "over"
_DONE: Final = "done"
#: Seconds before a server that is not there is tried again: first, and at most; each time twice as long.
_AGAIN_FIRST, _AGAIN_MOST = 1.0, 30.0


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def _autoscale(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if not value:
        return None
    try:
        most, _, least = value.partition(",")
        found = int(most), int(least or 0)
    except ValueError:
        msg = f"{value!r}: write MAX,MIN, such as 10,2"
        raise click.BadParameter(msg) from None
    if found[0] < max(found[1], 1):
        msg = f"{value!r}: MAX stands first, and is at least 1 and at least MIN"
        raise click.BadParameter(msg)
    return found


def _level(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        return level_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _concurrency(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if value == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or not int(value):
        msg = f"{value!r} is no number of slots"
        raise click.BadParameter(msg)
    return int(value)


class _Pools(click.Choice[str]):
    """The pools; says what stands for Celery's other ones."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in {"gevent", "eventlet"}:
            self.fail(f"there is no {value} here; what waits for a network runs in threads: -P threads -c 100")
        return super().convert(value, param, ctx)


#: Options of Celery's worker for which there is another way, and that.
_ELSEWHERE: Final = {
    "beat": "there is no scheduler in a worker: run Celery's beside it, celery -A APP beat, on the same broker",
    "uid": "a worker changes no user: start it as that one (sudo -u USER nbcanvas worker …, User= in systemd)",
    "gid": "a worker changes no group: start it in that one (sg GROUP, Group= in systemd)",
    "umask": "a worker changes no umask: set it before (umask 022; nbcanvas worker …, UMask= in systemd)",
}


def _elsewhere(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        msg = f"{'/'.join(param.opts)}: {_ELSEWHERE[param.name or '']}"
        raise click.UsageError(msg, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-n", "--hostname", help="Node name; %h is this host, %n its name, %d its domain.  [celery@%h]")
@click.option("-c", "--concurrency", callback=_concurrency, help="How many tasks run at once, or 'auto'.")
@click.option(
    "-P",
    "--pool",
    type=_Pools(["threads", "processes", "solo", "prefork"]),
    help="Where tasks run; prefork means processes.",
)
@click.option("-Q", "--queues", callback=_names, metavar="A,B", help="Queues to take from.")
@click.option("-X", "--exclude-queues", callback=_names, metavar="A,B", help="Queues not to take from.")
@click.option("-I", "--include", callback=_names, metavar="MODULE,…", help="Modules to import.")
@click.option("--prefetch-multiplier", type=click.IntRange(0), help="Messages taken for each slot; 0 is no limit.")
@click.option("--disable-prefetch", is_flag=True, help="Take only what can start at once.")
@click.option(
    "-O",
    "--optimization",
    type=click.Choice(["default", "fair"]),
    default="default",
    help="fair: as --disable-prefetch.",
)
@click.option("-E", "--task-events", "--events", is_flag=True, help="Send events of tasks, for monitors.")
@click.option("--time-limit", type=float, help="Hard time limit of tasks, in seconds.")
@click.option("--soft-time-limit", type=float, help="Soft time limit of tasks, in seconds.")
@click.option("--max-tasks-per-child", type=click.IntRange(1), help="Tasks after which a process is replaced.")
@click.option("--max-memory-per-child", type=click.IntRange(1), help="KiB after which a process is replaced.")
@click.option("--pool-start-method", type=click.Choice(["fork", "spawn"]), hidden=True)
@click.option("--autoscale", callback=_autoscale, metavar="MAX,MIN", help="As many slots as there is work for.")
@click.option("--purge", "--discard", is_flag=True, help="Drop every waiting message first.")
@click.option("--without-heartbeat", is_flag=True, help="Send no heartbeat events.")
@click.option("--heartbeat-interval", type=float, help="Seconds between heartbeat events.")
@click.option("--without-gossip", is_flag=True, help="Accepted for compatibility.")
@click.option("--without-mingle", is_flag=True, help="Do not ask the other workers what was revoked.")
@click.option("-l", "--loglevel", default="WARNING", callback=_level, help="DEBUG, INFO, WARNING, ERROR or CRITICAL.")
@click.option("-f", "--logfile", help="Where the log goes; standard error by default.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Lines of text, or of JSON.")
@click.option("-S", "--statedb", help="File that keeps what was revoked.")
@click.option("--pidfile", help="File that keeps the process id.")
@click.option("-D", "--detach", "detached", is_flag=True, help="Run in the background.")
@click.option("--autoreload", is_flag=True, help="Start anew when a module changes (development).")
@click.option("--allow-shipped", is_flag=True, help="Accept tasks whose code comes, signed, with their messages.")
@click.option(
    "--signing-key", type=click.Path(exists=True, dir_okay=False), help="File of the key they are signed with."
)
@click.option("-B", "--beat", is_flag=True, hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--uid", hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--gid", hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--umask", hidden=True, expose_value=False, callback=_elsewhere)
@common_options
def worker(given: Given, **options: Any) -> None:
    """Run a worker: take tasks from the broker's queues, run them, store their results.

    Ctrl-C (or SIGTERM) lets running tasks end, and gives back what was only fetched; a second Ctrl-C (or SIGQUIT) ends
    at once.
    """
    hostname = node_name(options["hostname"])
    logfile = expanded(options["logfile"], hostname) if options["logfile"] else None
    if options["detached"]:
        pid = detach([one for one in sys.argv[1:] if one not in {"-D", "--detach"}], logfile)
        click.echo(f"{hostname} runs in the background as process {pid}")
        return
    app = app_of(given, needed=True)
    modules = [module_of(given.app or ""), *_configure(app, options)]
    conf = app.conf
    colours = not given.no_color and conf.worker_log_color is not False
    form = options["log_format"]
    set_up(options["loglevel"], logfile, form, conf.worker_log_format, conf.worker_log_datefmt, colours=colours)
    signals = Signals()
    signals.listen()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)  # what does it do right now?
    with pid_file(expanded(options["pidfile"], hostname) if options["pidfile"] else None):
        try:
            asked = _run(app, hostname, options, signals, modules, quiet=given.quiet)
        except ServerLost as error:
            raise click.ClickException(str(error)) from error
        except NBCanvasError as error:
            raise click.UsageError(str(error)) from error
    logging.shutdown()
    if asked == AGAIN:
        start_anew(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a task that was given up may still run in its thread, and hold up the end


def _configure(app: App, options: Mapping[str, Any]) -> list[str]:
    """Put what the command line says into the settings, and import what they name; returns the modules."""
    names = {
        "prefetch_multiplier": "worker_prefetch_multiplier",
        "time_limit": "task_time_limit",
        "soft_time_limit": "task_soft_time_limit",
        "max_tasks_per_child": "worker_max_tasks_per_child",
        "max_memory_per_child": "worker_max_memory_per_child",
        "concurrency": "worker_concurrency",
        "pool": "worker_pool",
        "statedb": "worker_state_db",
    }
    found = {setting: options[name] for name, setting in names.items() if options[name] is not None}
    if options["task_events"]:
        found["worker_send_task_events"] = True
    if options["disable_prefetch"]:
        found["worker_disable_prefetch"] = True
    if found.get("worker_pool") == "prefork":
        found["worker_pool"] = "processes"
    app.conf.update(found)
    if not app.remote:
        msg = "a worker of the cluster needs a broker that is a server: set broker_url, or give one with -b"
        raise click.UsageError(msg)
    imports = app.conf.imports, app.conf.include, options["include"]
    modules = [name for some in imports for name in ([some] if isinstance(some, str) else some or ())]
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise
            msg = f"there is no module {name!r} to import (imports, include, -I)"
            raise click.UsageError(msg) from error
    if options["allow_shipped"]:
        from nbcanvas.app.shipped import Shipping, signing_key

        app.shipping = Shipping(app, signing_key(options["signing_key"]), accept=True)
    return modules


def _queues(app: App, options: Mapping[str, Any]) -> list[str]:
    from nbcanvas.servers.queues import Queues

    wanted = options["queues"] or list(Queues.of(app.conf).consumed)
    found = [name for name in wanted if name not in options["exclude_queues"]]
    if not found:
        msg = f"no queue is left to take from: {', '.join(wanted)} without {', '.join(options['exclude_queues'])}"
        raise click.UsageError(msg)
    return found


def _run(
    app: App, hostname: str, options: Mapping[str, Any], signals: Signals, modules: Sequence[str], *, quiet: bool
) -> str:
    """Run a worker until it is to end; returns why."""
    queues = _queues(app, options)
    watched = UserModules() if options["autoreload"] else None
    made = ClusterWorker(
        app,
        hostname=hostname,
        pool=app.conf.worker_pool,
        queues=queues,
        fair=options["optimization"] == "fair",
        autoscale=options["autoscale"],
        modules=modules,
    )
    if not _patiently(app, made.connect, signals):
        return _OVER
    if options["purge"] and not _patiently(app, partial(_purge, app, queues), signals):
        return _OVER
    stops = _start_beside(app, made, options)
    made.start()
    if not quiet:
        click.echo(banner(app, made, _version()))
    gc.collect()
    gc.freeze()
    if options["logfile"] or options["loglevel"] > logging.INFO:  # else the log says it in the same place
        click.echo(f"{hostname} ready.", err=True)
    log.info("%s ready.", hostname)
    threading.Thread(target=_report_end, args=(made, signals), name="nbcanvas-over", daemon=True).start()
    if watched is not None:
        threading.Thread(target=_watch, args=(watched, signals), name="nbcanvas-reload", daemon=True).start()
    asked = _wait(made, signals)
    for stop in stops:
        stop()
    return asked


def _purge(app: App, queues: Sequence[str]) -> None:
    click.echo(f"{app.broker.purge(queues)} messages were dropped")


def _patiently(app: App, ask: Callable[[], object], signals: Signals) -> bool:
    """Have a server do something, and wait until it is there, as long as the settings say.

    Returns False when somebody asked to stop meanwhile.

    Raises
    ------
    ServerLost
        When it is not there in time, or does not let us in.
    """
    conf = app.conf
    on_startup = conf.broker_connection_retry_on_startup
    patient = conf.broker_connection_retry if on_startup is None else on_startup
    most = conf.broker_connection_max_retries or float("inf")
    tries, pause = 0, _AGAIN_FIRST
    while True:
        try:
            if not _done(ask, signals):
                return False
        except AccessRefused:
            raise
        except ServerLost as error:
            tries += 1
            if not patient or tries > most:
                raise
            of = f" of {most}" if most < float("inf") else ""
            log.warning("%s; trying again in %.0f s (%s%s)", error, pause, tries, of)
            try:
                signals.asked.get(timeout=pause)
            except Empty:
                pause = min(pause * 2, _AGAIN_MOST)
                continue
            return False
        else:
            if tries:
                log.warning("the server is there")
            return True


def _done(ask: Callable[[], object], signals: Signals) -> bool:
    """Do something that may take long, in a thread; False when somebody asked to stop before it was done."""
    failed: list[Exception] = []

    def work() -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)
        signals.asked.put(_DONE)

    threading.Thread(target=work, name="nbcanvas-connect", daemon=True).start()
    if signals.asked.get() != _DONE:
        return False
    if failed:
        raise failed[0]
    return True


def _start_beside(app: App, made: ClusterWorker, options: Mapping[str, Any]) -> Sequence[Callable[[], None]]:
    """Start what listens to remote control and sends events; returns what stops them."""
    from nbcanvas.worker.cluster.commands import Desk
    from nbcanvas.worker.cluster.events import WorkerEvents

    conf = app.conf
    made.listener = events = WorkerEvents(
        app,
        made.hostname,
        made.orders.counts,
        tasks=bool(conf.worker_send_task_events),
        heartbeat=not options["without_heartbeat"],
        interval=options["heartbeat_interval"] or 2.0,
    )
    desk = Desk(made.orders, events, mingle=not options["without_mingle"], statedb=conf.worker_state_db)
    desk.start()
    events.start()
    return (events.stop, desk.stop)


def _report_end(made: ClusterWorker, signals: Signals) -> None:
    made.over.wait()
    signals.asked.put(_OVER)


def _watch(modules: UserModules, signals: Signals) -> None:
    pause = threading.Event()
    while not pause.wait(0.5):
        modules.look()
        if modules.have_changed():
            log.warning("a module has changed: starting anew")
            signals.asked.put(AGAIN)
            return


def _wait(made: ClusterWorker, signals: Signals) -> str:
    """Wait until the worker has ended; returns why it did."""
    why = ""
    while True:
        asked = signals.asked.get()
        if asked == _OVER:
            return why or _OVER
        if asked == COLD:
            click.echo(f"{made.hostname}: cold shutdown", err=True)
            threading.Thread(target=made.stop_now, name="nbcanvas-cold", daemon=True).start()
        elif not why:
            made.shutdown()
            click.echo(f"{made.hostname}: {'starting anew' if asked == AGAIN else 'warm shutdown'}", err=True)
            if asked == WARM and made.orders.running():
                click.echo("running tasks end first; Ctrl-C again (or SIGQUIT) ends them now", err=True)
        why = why or asked


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nbcanvas")
    except PackageNotFoundError:
        return "from source"
