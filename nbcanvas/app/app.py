"""The App: tasks, settings, a broker and a backend, tied together (Celery's guide, "Application")."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Self, overload

from nbcanvas import result as results
from nbcanvas.backend.port import Backend, Record
from nbcanvas.broker.port import Broker
from nbcanvas.canvas import Signature, pin, set_default_host, signature
from nbcanvas.control import Control
from nbcanvas.errors import ImproperlyConfigured, RemoteError, stand_in
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.events.hub import Hub
from nbcanvas.garbage import collecting_less
from nbcanvas.ids import IdSource, random_source, seeded_ids
from nbcanvas.ledger.port import Ledger
from nbcanvas.plan import Call, Chain, Fan, Message, Node, Slot, calls_of, freeze
from nbcanvas.plan.freezing import Packer, inherit, join_in
from nbcanvas.protocol.payload import Packing, pack_args, unpack_args
from nbcanvas.request import Context, current, running
from nbcanvas.result import bound_to, result_of
from nbcanvas.servers.urls import masked
from nbcanvas.states import EXCEPTION_STATES, FAILURE, REVOKED, SUCCESS
from nbcanvas.task import Task as BaseTask
from nbcanvas.task import from_function, prepare

from .builtins import add_builtins
from .connections import Connections
from .engine import Engine, Plan, adopt, engine, set_engine
from .perform import Performer
from .registry import TaskRegistry
from .routing import Router
from .secret import hidden
from .settings import Settings, TaskDefaults, ignores_result, settings_in

if TYPE_CHECKING:  # what only apps with servers load
    from nbcanvas.broker.post import Post
    from nbcanvas.servers.kombu import KombuServer
    from nbcanvas.servers.redis import RedisServer

    from .fleet import Fleet

__all__ = ["App", "Engine", "Plan", "current_app", "current_task", "set_engine", "shared_task", "task", "uuid"]


_NO_KWARGS: Mapping[str, Any] = {}


def _exception_in(meta: Any) -> BaseException:
    """Return the exception that a task gives as the ``meta`` of a state that has one; it may be Celery's document."""
    if isinstance(meta, BaseException):
        return meta
    if isinstance(meta, Mapping) and isinstance(meta.get("exc_type"), str):
        says = meta.get("exc_message", ())
        return stand_in(meta["exc_type"], *(says if isinstance(says, list | tuple) else (says,)))
    return RemoteError("Exception", meta)


class App:
    """An application: the tasks it knows, its settings, and where its messages and results are.

    Parameters
    ----------
    main
        Its name; tasks of ``__main__`` take it as their module's name.
    broker, backend
        URLs.  None is the broker and the backend inside the process, run by an embedded worker.
    include
        Modules to import when the worker starts.
    set_as_current
        Whether bare ``task``, ``signature`` and handles made from ids use this app from now on.
    **settings
        Settings by Celery's names.

    Raises
    ------
    UnknownSetting
        For a setting that does not exist.
    """

    #: The class of tasks made with `task`.
    Task: type[BaseTask]

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        task_cls: type[BaseTask] | None = None,
        set_as_current: bool = True,
        **settings: Any,
    ) -> None:
        self.main = main
        broker, backend = hidden(broker), hidden(backend)  # in a traceback that shows variables, too
        urls = {name: url for name, url in (("broker_url", broker), ("result_backend", backend)) if url}
        self.conf = Settings({**settings, **({"include": include} if include else {}), **urls})
        self.defaults = TaskDefaults.of(self.conf)
        self.Task = task_cls or BaseTask
        self.tasks = TaskRegistry()
        self.router = Router(self.conf, self.tasks)
        self.hub = Hub()
        self.shipping: Any = None
        self._connections = Connections(self)
        self.broker: Broker = self._connections.broker
        self.backend: Backend = self._connections.backend
        self.performer = Performer(self.broker, self.backend, self.hub)
        self.conf.on_change(self._reconsider)
        self.control = Control(self)
        self.worker: Any = None
        #: How often it was closed: what was sent before is not heard of after.
        self.closings = 0
        self._before_close: dict[Callable[[App], None], None] = {}
        #: What `connected` set -> its value, and the settings of those names before: they go with the servers.
        self._lent: dict[str, tuple[Any, dict[str, Any]]] = {}
        #: The result backend of the embedded worker, to come back to.
        self._home: str | None = None
        self._starting = threading.RLock()
        self._ids: IdSource | None = None
        add_builtins(self)
        adopt(self)
        if set_as_current:
            self.set_current()

    def _reconsider(self) -> None:
        """Draw the consequences of changed settings."""
        self.router.changed()
        self.defaults = TaskDefaults.of(self.conf)
        self._connections.choose()
        self.broker = self.performer.broker = self._connections.broker
        self.backend = self.performer.backend = self._connections.backend
        self.performer.sent = self._connections.sent

    def __repr__(self) -> str:
        return f"<App {self.main or 'default'}: {len(self.tasks)} tasks>"

    def __reduce__(self) -> Any:
        return current_app, ()

    def set_current(self) -> None:
        """Make this the app that bare ``task``, ``signature`` and handles use."""
        _Current.app = self

    set_default = set_current

    def close(self) -> None:
        """Stop the embedded worker, and let go of servers and the result backend; who uses it again connects anew."""
        self.stop_worker()
        for tell in list(self._before_close):
            tell(self)
        self.closings += 1
        self.control.close()
        self._connections.close()
        if self.remote:
            self._reconsider()

    def before_close(self, tell: Callable[[App], None]) -> None:
        """Have something called, once, when this app is closed, while its servers are still there."""
        self._before_close[tell] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- servers ------------------------------------------------------------------------------------------------

    @property
    def remote(self) -> bool:
        """Whether the broker is a server, and workers are elsewhere."""
        return self._connections.remote

    @property
    def kombu(self) -> KombuServer:
        """The broker's server, for what goes through kombu whatever the broker is: remote control and events."""
        return self._connections.kombu

    @property
    def redis(self) -> RedisServer | None:
        """The broker, when it is a Redis; else None."""
        return self._connections.redis

    @property
    def packing(self) -> Packing:
        """In which form values travel."""
        return self._connections.packing

    @property
    def post(self) -> Post:
        """Writes and reads the messages of the cluster."""
        return self._connections.post

    @functools.cached_property
    def fleet(self) -> Fleet:
        """What is known of the workers of the cluster."""
        from .fleet import Fleet

        return Fleet(self)

    @property
    def client_id(self) -> str:
        """What workers call this process when they tell it something (Celery's ``oid``, ``reply_to``)."""
        return self._connections.client_id

    def follow(self) -> None:
        """Hear the events of workers elsewhere; does nothing when there are none."""
        if self.remote:
            self._connections.follow()

    def leave(self) -> None:
        """Hear those events only as long as a run waits for them: what comes next is run elsewhere."""
        self._connections.leave()

    def ledger(self, hostname: str, queues: Sequence[str] = ()) -> Ledger:
        """Return what a worker takes messages from, and writes down in what came of them.

        Parameters
        ----------
        hostname
            The worker's node name.
        queues
            Where to take from; what the settings say by default.
        """
        return self._connections.ledger(hostname, queues)

    def unlock(self, *chord: Any) -> bool:
        """Go on behind a group whose tasks have ended, where nobody counts them; see `unlocking.unlock`."""
        from .unlocking import unlock

        return unlock(self, *chord)

    def connected(self, broker: str | None = None, backend: str | None = None, **settings: Any) -> App:
        """Return a new app with this one's tasks and settings, and other servers; it becomes the current one.

        Runs and results of this app go on where they are.

        Parameters
        ----------
        broker, backend
            URLs; None is what is inside this process: of the backend, what was there before the first cluster.
        **settings
            Settings that differ.  They are for these servers: the next call takes them back, unless they were changed.
        """
        home = self._home if self.remote else self.conf.result_backend
        broker, backend = hidden(broker), hidden(backend if broker or backend else home)
        servers = {"broker_url", "broker_read_url", "broker_write_url", "result_backend"}
        kept = {name: value for name, value in self.conf.given.items() if name not in servers}
        for name, (value, was) in self._lent.items():
            if name in kept and kept[name] == value:
                del kept[name]
                kept |= was
        made = type(self)(
            self.main, broker=broker, backend=backend, task_cls=self.Task, set_as_current=False, **{**kept, **settings}
        )
        made._home = home  # noqa: SLF001 - of this class
        made._lent = {  # noqa: SLF001
            name: (made.conf[name], {name: kept[name]} if name in kept else {})
            for name in settings
            if name not in servers
        }
        made.tasks = self.tasks
        made.router = Router(made.conf, made.tasks)
        for task in self.tasks.values():
            task.bind(made)
        made.set_current()
        return made

    # -- settings and tasks -------------------------------------------------------------------------------------

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Take settings from a mapping, an object, or a module given by name.

        Parameters
        ----------
        obj
            Where to take them from.
        silent
            Return quietly when a module cannot be imported.
        force
            Accepted for compatibility.
        namespace
            Take names that start with it and an underscore only (``CELERY`` -> ``CELERY_TASK_ROUTES``).
        """
        try:
            found = settings_in(obj, namespace)
        except ImportError:
            if not silent:
                raise
        else:
            self.conf.update(found)

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Take settings from the module that an environment variable names; False when it names none."""
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent, force)
        elif not silent:
            msg = f"the environment variable {variable_name!r} is not set: it has to name a module of settings"
            raise ImproperlyConfigured(msg)
        return bool(name)

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] = (),
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import the module of tasks of each package, at once.

        Parameters
        ----------
        packages
            Their names, or a function that gives them.
        related_name
            The module's name; None imports the packages themselves.
        force
            Accepted for compatibility.
        """
        for package in packages() if callable(packages) else packages:
            importlib.import_module(package)
            name = f"{package}.{related_name}"
            if related_name and importlib.util.find_spec(name) is not None:
                importlib.import_module(name)

    def finalize(self, auto: bool = False) -> None:
        """Do nothing: an app is ready when it is made."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def bugreport(self) -> str:
        """Return what a report of a bug should say of versions and settings; no password is in it."""
        import platform
        from importlib.metadata import version

        given = ", ".join(sorted(self.conf.given)) or "none"
        used = ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis", "kombu"))
        broker = masked(str(self.conf.broker_url)) if self.remote else "the worker in this process"
        results = masked(str(self.conf.result_backend)) if self.conf.result_backend else "beside the broker"
        return (
            f"nbcanvas {version('nbcanvas')}, Python {platform.python_version()} on {platform.platform()}\n"
            f"{used}\nbroker {broker}\nresults {results}\n"
            f"pool {self.conf.worker_pool}, {len(self.tasks)} tasks\nsettings given: {given}"
        )

    @overload
    def task(self, fun: Callable[..., Any], /, **options: Any) -> BaseTask: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[..., Any]], BaseTask]: ...

    def task(self, /, *args: Any, **options: Any) -> Any:
        """Make a task of a function (a decorator, with or without options).

        Parameters
        ----------
        name
            The task's name; the module's and the function's name by default, the function's alone in a notebook.
        bind
            Give the task itself as the first argument.
        base
            The task's class.
        pydantic, pydantic_strict, pydantic_context, pydantic_dump_kwargs
            Validate arguments annotated with pydantic models.
        **options
            Attributes of `nbcanvas.task.Task`.

        Returns
        -------
        Task
            A task of the same name is replaced: the next run uses the new code.
        """
        if len(args) == 1 and callable(args[0]):
            return self._task_from(args[0], **options)
        if args:
            msg = "@task takes keyword options only, such as @task(bind=True)"
            raise TypeError(msg)
        return functools.partial(self._task_from, **options)

    def _task_from(
        self, fun: Callable[..., Any], name: str | None = None, base: type[BaseTask] | None = None, **options: Any
    ) -> BaseTask:
        task = from_function(
            fun, name or self.gen_task_name(fun.__name__, fun.__module__), base or self.Task, **options
        )
        self.tasks.register(task)
        task.bind(self)
        self.router.changed()
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name of a task that was given none."""
        if module == "__main__":
            return f"{self.main}.{name}" if self.main else name
        return f"{module}.{name}"

    def register_task(self, task: BaseTask | type[BaseTask], **options: Any) -> BaseTask:
        """Register a task of a class; returns the instance."""
        made = task() if isinstance(task, type) else task
        for key, value in options.items():
            setattr(made, key, value)
        if not made.name:
            made.name = self.gen_task_name(type(made).__name__, type(made).__module__)  # type: ignore[misc]
        prepare(made)
        made.bind(self)
        self.tasks.register(made)
        self.router.changed()
        return made

    def lookup(self, name: str) -> BaseTask | None:
        """Return the task of that name, or None."""
        return self.tasks.find(name)

    # -- handles --------------------------------------------------------------------------------------------------

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """Return a signature that belongs to this app (see `nbcanvas.signature`)."""
        kwargs.setdefault("app", self)
        return signature(*args, **kwargs)

    @functools.cached_property
    def AsyncResult(self) -> type[results.AsyncResult]:
        """The class of result handles that ask this app."""
        return bound_to(self, results.AsyncResult)

    @functools.cached_property
    def GroupResult(self) -> type[results.GroupResult]:
        """The class of group handles that ask this app."""
        return bound_to(self, results.GroupResult)

    @functools.cached_property
    def ResultSet(self) -> type[results.ResultSet]:
        """The class of sets of results that ask this app."""
        return bound_to(self, results.ResultSet)

    @property
    def current_task(self) -> BaseTask | None:
        """The task that runs in this thread."""
        found = current()
        return found[0] if found is not None else None

    @property
    def current_worker_task(self) -> BaseTask | None:
        """The task that a worker runs in this thread, whatever that one calls like a function."""
        return next((task for task, context in reversed(running.stack) if not context.called_directly), None)

    # -- planning and sending ---------------------------------------------------------------------------------------

    def seed_ids(self, seed: int | str | None = 0) -> None:
        """Make the ids of everything planned from now on the same in every process; None makes them random again."""
        self._ids = None if seed is None else seeded_ids(seed)

    def new_ids(self) -> IdSource:
        """Return a source of ids for one plan."""
        return self._ids or random_source()

    def plan(
        self,
        sig: Signature,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Freeze a canvas; nothing is sent, and `sig` is not changed.

        Parameters
        ----------
        sig
            Any signature.
        args, kwargs, options
            The partials it is called with.

        Raises
        ------
        CanvasError
            When the canvas cannot mean anything.
        NotSerializable
            When an argument would not travel.
        """
        options = options or {}
        with collecting_less():
            node = self._frozen(sig, self.new_ids(), self.packing.pack_args, tuple(args), kwargs or {}, options)
        root_id, parent_id = options.get("root_id"), options.get("parent_id")
        above = current()
        message = above[1].message if above is not None else None
        if above is not None and message is not None:
            root_id, parent_id = root_id or above[1].root_id, parent_id or above[1].id
            own = sig.options
            if own.get("chord") and own.get("group_id") == message.call.group_id and isinstance(message.then, Slot):
                join_in(node, message.call)  # see `grow_chord`
                return Plan(node, root_id or _first_id(node), parent_id, then=message.then)
        return Plan(node, root_id or _first_id(node), parent_id)

    def grow_chord(self, more: int = 1) -> None:
        """Let what the running task counts for wait for more parts: for what is sent next to count there, too.

        Raises
        ------
        ValueError
            When the task counts for nothing.
        NotImplementedError
            Where nobody else counts the parts: anywhere but on servers, with the results in Redis (as in Celery).
        """
        above = current()
        message = above[1].message if above is not None else None
        if above is None or message is None or not isinstance(message.then, Slot):
            msg = "Current task is not member of any chord"
            raise ValueError(msg)
        grow = getattr(self.backend, "grow", None)
        if grow is None or above[1].is_eager or self.conf.task_always_eager:
            msg = (
                "a chord's header can grow while it runs only on a cluster whose results are in Redis: here "
                "return self.replace(group([...])) puts several in this place"
            )
            raise NotImplementedError(msg)
        grow(message.then.join, more)

    def look(self, sig: Signature, pack: Packer = pack_args) -> Node:
        """Freeze a canvas only to look at it: its ids are thrown away, and the app's source of ids is left alone.

        Parameters
        ----------
        sig
            The canvas.
        pack
            Packs a call's arguments; another one than usual can put something in the place of what cannot travel.
        """
        return self._frozen(sig, seeded_ids("look"), pack)

    def _frozen(
        self,
        sig: Signature,
        new_id: IdSource,
        pack: Packer,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = _NO_KWARGS,
        options: Mapping[str, Any] = _NO_KWARGS,
        *,
        nesting: int = 0,
    ) -> Node:
        """Freeze a canvas as this app's tasks and settings have it."""
        header_errbacks = bool(self.conf.task_allow_error_cb_on_chord_header)
        versions = self.tasks.versions
        return freeze(
            sig, new_id, pack, args, kwargs, options, versions, header_errbacks=header_errbacks, nesting=nesting
        )

    def publish(self, plan: Plan) -> None:
        """Start a plan: check the calls that can start now, and send them.

        Raises
        ------
        InvalidTaskError
            When a call's arguments do not fit its task.
        """
        with collecting_less():
            self.backend.refuse(plan.node)
            now = time()
            transition = plan.begin(now)
            self._check(transition.send)
            self.backend.expect(call.id for call in calls_of(plan.node))
            self.ensure_worker()
            if self.remote:
                self._connections.references.keep(plan.node)
            if self.shipping is not None:
                self.shipping.begin(plan.root_id, plan.node)
            self.performer.perform(transition, plan.root_id, plan.parent_id, now)

    def _check(self, messages: Sequence[Message]) -> None:
        find = self.tasks.find
        name, found = "", None
        for message in messages:
            call = message.call
            if call.task != name:
                name, found = call.task, find(call.task, call.version)
            if found is not None and found.typing:
                payload = call.payload
                args, kwargs = (payload, _NO_KWARGS) if type(payload) is tuple else unpack_args(payload)
                if message.given and not call.immutable:  # the body of a chord whose header is empty
                    args = (*message.given, *args)
                found.check(args, kwargs)

    def submit(
        self,
        sig: Signature,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a canvas to be run (``apply_async``); returns its AsyncResult or GroupResult."""
        if self.conf.task_always_eager:
            return self.apply(sig, args, kwargs, options)
        plan = self.plan(sig, args, kwargs, options)
        result = result_of(plan.node, self)
        above = current()
        if above is not None and above[1].id is not None and (options or {}).get("add_to_parent", True):
            above[1].children.append(result)
        self.tell_started(plan)
        self.publish(plan)
        return result

    def tell_started(self, plan: Plan) -> None:
        """Tell the run of the task that runs here, if one does, which canvas it starts."""
        above = current()
        feed = self.hub.feed(plan.root_id) if above is not None else None
        message = above[1].message if above is not None else None
        if feed is not None and message is not None:
            feed(Event(kinds.GRAFTED, message.call.id, time(), message.attempt, (plan.node, "child")))

    def replacement(self, message: Message, sig: Signature) -> Node:
        """Freeze a canvas that stands in for the task of a message from now on, and tell the run."""
        call = message.call
        own_id = {"task_id": call.id}
        node = self._frozen(sig, self.new_ids(), self.packing.pack_args, options=own_id, nesting=call.nesting + 1)
        inherit(node, call)
        feed = self.hub.feed(message.root_id)
        if feed is not None:
            feed(Event(kinds.GRAFTED, call.id, time(), message.attempt, (node, "replacement")))
        return node

    def apply(
        self,
        sig: Signature,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a canvas in the calling thread (``apply``); returns its EagerResult, or a GroupResult of those."""
        options = dict(options or {})
        throw = options.pop("throw", None)
        plan = self.plan(sig, args, kwargs, options)
        return engine().apply(self, plan, throw=self.conf.task_eager_propagates if throw is None else bool(throw))

    def run_here(self, plan: Plan) -> None:
        """Run a plan in the calling thread, with its results kept; the first exception of a task is raised as it is."""
        engine().apply(self, plan, throw=True, keep=True)

    def freeze(self, sig: Signature, **structure: Any) -> Any:
        """Pin the ids of a canvas, in place, and return its result handle (``sig.freeze()``)."""
        pin(sig, self.new_ids(), **structure)
        # Planned only to learn the shape of the result: a pinned canvas plans to the same ids every time.
        node = self._frozen(sig, self.new_ids(), lambda args, kwargs: None)
        return result_of(node, self)

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send a task by name; it need not be known here."""
        return self.submit(Signature(name, tuple(args or ()), dict(kwargs or {}), app=self), (), {}, options)

    def report(self, task_id: str, context: Context | None, state: str, meta: Any) -> None:
        """Store a custom state of a running task, and tell its run (``update_state``)."""
        exc = None
        if state in EXCEPTION_STATES:
            exc, meta = _exception_in(meta), None
        message = context.message if context is not None else None
        settled = -1 if message is None else message.attempt - 1
        call, retries = (None, 0) if message is None else (message.call, message.retries)
        payload = self.packing.pack(meta)
        done = time() if state in {SUCCESS, FAILURE, REVOKED} else None
        self.backend.update(
            task_id, Record(state, payload, exc, settled=settled, done=done, call=call, retries=retries)
        )
        feed = self.hub.feed(message.root_id) if message is not None else None
        if feed is not None and message is not None:
            feed(Event(kinds.PROGRESS, task_id, time(), message.attempt, (state, meta)))

    # -- routing ----------------------------------------------------------------------------------------------------

    def route(self, message: Message) -> tuple[str, int]:
        """Return the queue and the priority of a message."""
        return self.route_call(message.call)

    def route_call(self, call: Call) -> tuple[str, int]:
        """Return the queue and the priority of a call: its options, then the task, then routes, then settings."""
        address = self.router.of_call(call)
        return address.queue, address.priority

    def queue_of(self, call: Call) -> str:
        """Return the queue a call goes to."""
        return self.route_call(call)[0]

    # -- tasks by value ---------------------------------------------------------------------------------------------

    def pack_task(self, task: BaseTask) -> Any:
        """Return a task as bytes (``data``), with what it takes along."""
        return engine().pack(task)

    def unpack_task(self, data: bytes) -> BaseTask:
        """Return the task in some bytes; they are unpickled, and have to be trusted."""
        return engine().unpack(data)

    def ignores_result(self, call: Call) -> bool:
        """Say whether the value of a call is not kept: its options, then its task, then the settings decide.

        Of a task that only workers know it is what they said when they were asked.
        """
        task = self.tasks.find(call.task, call.version)
        if task is None and self.remote and call.options.get("ignore_result") is None and self.fleet.ignores(call.task):
            return True
        return ignores_result(task, call.options, self.defaults)

    # -- the embedded worker ----------------------------------------------------------------------------------------

    def ensure_worker(self) -> Any:
        """Return the embedded worker; start it when there is none, and none elsewhere."""
        if self.worker is None and not self.remote:
            with self._starting:
                if self.worker is None:
                    self.worker = engine().start(self)
        return self.worker

    def start_worker(self, concurrency: int | None = None, pool: str | None = None) -> Any:
        """Start the embedded worker, in place of the one that runs.

        Parameters
        ----------
        concurrency
            How many tasks run at once.
        pool
            ``"threads"``, ``"processes"`` or ``"solo"``.
        """
        with self._starting:
            self.stop_worker()
            if concurrency is not None:
                self.conf.worker_concurrency = concurrency
            if pool is not None:
                self.conf.worker_pool = pool
            return self.ensure_worker()

    def stop_worker(self, timeout: float | None = None) -> None:
        """Stop the embedded worker; messages keep waiting, and the next start goes on with them."""
        with self._starting:
            worker, self.worker = self.worker, None
            if worker is not None:
                worker.stop(timeout)


def _first_id(node: Node) -> str:
    while isinstance(node, Chain):
        node = node.steps[0]
    return node.id if isinstance(node, Call | Fan) else ""


class _Current:
    app: App | None = None
    making = threading.Lock()


def current_app() -> App:
    """Return the current app; the first call makes a default one."""
    if _Current.app is None:
        with _Current.making:
            if _Current.app is None:
                App()
    assert _Current.app is not None  # noqa: S101 - made just now
    return _Current.app


@overload
def task(fun: Callable[..., Any], /, **options: Any) -> BaseTask: ...
@overload
def task(**options: Any) -> Callable[[Callable[..., Any]], BaseTask]: ...


def task(*args: Any, **options: Any) -> Any:
    """Make a task of a function, in the current app (see `App.task`)."""
    return current_app().task(*args, **options)


shared_task = task


def uuid() -> str:
    """Return a new task id."""
    return current_app().new_ids()()


class CurrentTask:
    """Stands for the task that runs in this thread (``current_task.request.id``); false when none does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_app().current_task, name)

    def __bool__(self) -> bool:
        return current_app().current_task is not None

    def __repr__(self) -> str:
        return repr(current_app().current_task)


current_task = CurrentTask()

set_default_host(current_app)
