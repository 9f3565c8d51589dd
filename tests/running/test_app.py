"""The App: settings, tasks, routes, several apps side by side, control (Celery's guides "Application", "Routing")."""

from __future__ import annotations

import logging
import pickle
import re
import sys
import time
import types
from datetime import timedelta

import pytest
from celery.app.defaults import NAMESPACES, flatten

import nbcanvas
from nbcanvas import App, GroupResult, Signature, current_app, signature
from nbcanvas.app.settings import DEFAULTS, Settings
from nbcanvas.errors import ImproperlyConfigured, NotRegistered, TaskRevokedError, UnknownSetting
from nbcanvas.worker.admission import refusal

# -- settings -------------------------------------------------------------------------------------------------------

CELERYS = {name.lower(): option for name, option in flatten(NAMESPACES)}


def test_every_setting_of_celery_is_a_setting_here():
    assert sorted(set(CELERYS) - set(DEFAULTS)) == []


def test_every_setting_here_is_one_of_celery():
    read_but_not_listed = {"redis_backend_health_check_interval"}  # Celery's Redis backend reads it all the same
    assert set(DEFAULTS) - set(CELERYS) == read_but_not_listed


ON_PURPOSE = {
    "result_extended": "names, arguments and stamps cost nothing in one process, and tables show them",
    "worker_pool": "threads: a kernel is not to be forked",
    "worker_pool_start_method": "as above",
    "worker_hijack_root_logger": "the notebook's logging and stdout stay the notebook's",
    "worker_redirect_stdouts": "as above",
    "worker_log_format": "as above",
    "worker_task_log_format": "as above",
    "worker_autoscaler": "the names of Celery's own classes mean nothing here",
    "worker_consumer": "as above",
    "beat_scheduler": "as above",
}


def test_defaults_are_celerys():
    def plain(value):
        if isinstance(value, timedelta):
            return value.total_seconds()
        return tuple(value) if isinstance(value, list) else value

    different = {name for name, option in CELERYS.items() if plain(DEFAULTS[name]) != plain(option.default)}
    assert different == set(ON_PURPOSE)


def test_settings_by_attribute_and_by_key(app):
    assert app.conf.task_default_queue == app.conf["task_default_queue"] == "celery"
    app.conf.task_default_queue = "other"
    assert app.conf["task_default_queue"] == "other"
    app.conf.update(task_default_queue="third", task_acks_late=True)
    assert app.conf.task_default_queue == "third" and app.conf.task_acks_late
    del app.conf["task_default_queue"]
    assert app.conf.task_default_queue == "celery"
    assert "task_acks_late" in dir(app.conf) and "task_acks_late" in app.conf
    assert app.conf.get("task_acks_late") is True


@pytest.mark.parametrize(
    "use",
    [
        lambda app: App(task_always_eagre=True, set_as_current=False),
        lambda app: setattr(app.conf, "task_always_eagre", True),
        lambda app: app.conf.task_always_eagre,
        lambda app: app.conf.__setitem__("task_always_eagre", True),
        lambda app: app.conf.update(task_always_eagre=True),
        lambda app: app.config_from_object({"task_always_eagre": True}),
    ],
    ids=["made with", "set", "read", "set by key", "updated", "from an object"],
)
def test_an_unknown_setting_is_refused_with_a_suggestion(app, use):
    with pytest.raises(UnknownSetting, match="did you mean 'task_always_eager'"):
        use(app)


def test_the_old_names_of_celery_3_are_refused_with_the_new_one(app):
    with pytest.raises(UnknownSetting, match="task_always_eager"):
        app.config_from_object({"CELERY_ALWAYS_EAGER": True})


def test_config_from_object(app, monkeypatch):
    module = types.ModuleType("some_celeryconfig")
    module.task_default_queue = "from a module"
    module.helper = lambda: None
    module._private = 1
    module.sys = sys
    monkeypatch.setitem(sys.modules, "some_celeryconfig", module)
    app.config_from_object("some_celeryconfig")
    assert app.conf.task_default_queue == "from a module"

    class Config:
        task_default_queue = "from a class"

    app.config_from_object(Config)
    assert app.conf.task_default_queue == "from a class"
    module.Config = Config
    app.conf.task_default_queue = "x"
    app.config_from_object("some_celeryconfig:Config")
    assert app.conf.task_default_queue == "from a class"

    class Base:
        task_acks_late = True

    class Derived(Base):
        task_default_queue = "from an instance"

    app.config_from_object(Derived())
    assert app.conf.task_default_queue == "from an instance" and app.conf.task_acks_late
    app.config_from_object({"task_default_queue": "from a dict"})
    assert app.conf.task_default_queue == "from a dict"


def test_config_from_object_with_a_namespace(app):
    app.config_from_object({"CELERY_TASK_DEFAULT_QUEUE": "spaced", "DEBUG": True, "OTHER": 1}, namespace="CELERY")
    assert app.conf.task_default_queue == "spaced"


def test_config_from_a_module_that_is_missing(app):
    with pytest.raises(ImportError):
        app.config_from_object("no_such_module")
    app.config_from_object("no_such_module", silent=True)


def test_config_may_hold_routes_that_are_functions(app):
    def route(name, args, kwargs, options, task=None, **kw):
        return {"queue": "by-function"}

    module = types.ModuleType("config")
    module.task_routes = route
    app.config_from_object(module)
    assert app.conf.task_routes is route


# -- secrets --------------------------------------------------------------------------------------------------------

SECRET = "s3cr3t-pass"


@pytest.mark.parametrize(
    "settings",
    [
        {"broker": f"redis://user:{SECRET}@host:6379/0"},
        {"backend": f"redis://:{SECRET}@host:6379/0"},
        {"broker_url": f"amqp://user:{SECRET}@host//"},
        {"result_backend": f"redis://:{SECRET}@host"},
        {"broker": [f"amqp://user:{SECRET}@host//"]},
    ],
    ids=["broker", "backend", "broker_url", "result_backend", "several"],
)
def test_an_app_of_a_cluster_connects_to_nothing_before_it_is_used_and_shows_no_password(settings):
    with App(set_as_current=False, **settings) as app:
        shown = [app, app.conf, app.broker, app.backend, app.conf.given, dict(app.conf), app.bugreport()]
        assert SECRET not in repr(shown) and SECRET not in " ".join(map(str, shown))


def test_the_settings_mask_what_may_be_secret(app):
    secrets = {
        "broker_url": f"redis://:{SECRET}@h",
        "broker_read_url": [f"redis://:{SECRET}@h"],
        "redis_password": SECRET,
        "security_key_password": SECRET.encode(),
        "database_url": f"postgresql://u:{SECRET}@h/d",
        "s3_secret_access_key": SECRET,
        "cassandra_auth_kwargs": {"username": "u", "password": SECRET},
        "broker_transport_options": {"sentinel_kwargs": {"password": SECRET}, "visibility_timeout": 10},
        "mongodb_backend_settings": {"host": f"mongodb://u:{SECRET}@h/d", "database": "shown"},
    }
    conf = Settings(secrets)
    assert SECRET not in repr(conf) and SECRET not in str(conf)
    assert "'visibility_timeout': 10" in repr(conf) and "'database': 'shown'" in repr(conf)
    assert conf.redis_password == SECRET
    app.conf.update(redis_password=SECRET)
    app.ensure_worker()
    assert SECRET not in repr(app.control.inspect().conf())


@pytest.mark.parametrize("name", ["broker_url", "broker_write_url", "result_backend"])
def test_what_is_no_url_is_refused_whenever_it_is_set(app, name):
    for use in (
        lambda: setattr(app.conf, name, SECRET),
        lambda: app.config_from_object({name: SECRET}),
    ):
        with pytest.raises(ImproperlyConfigured, match=name) as caught:
            use()
        assert SECRET not in str(caught.value)
    assert app.conf[name] is None
    app.conf[name] = "memory://"


def test_settings_do_not_travel(app):
    with pytest.raises(TypeError, match="passwords"):
        pickle.dumps(app.conf)


# -- tasks ----------------------------------------------------------------------------------------------------------


def test_an_unknown_option_is_refused_with_a_suggestion(app):
    with pytest.raises(TypeError, match=r"max_retrys.*did you mean 'max_retries'"):

        @app.task(max_retrys=3)
        def work():
            pass

    with pytest.raises(TypeError, match="keyword"):
        app.task("name")


@pytest.mark.filterwarnings("ignore")
def test_tasks_have_what_celerys_have():
    import celery

    # Its worker's machinery, and what needs its wire.
    internal = {
        "OperationalError",
        "Request",
        "Strategy",
        "add_around",
        "annotate",
        "from_config",
        "pop_request",
        "push_request",
        "request_stack",
        "send_event",
        "shadow_name",
        "signature_from_request",
        "start_strategy",
        "subtask_from_request",
    }
    missing = {name for name in dir(celery.Task) if not name.startswith("_")} - set(dir(nbcanvas.Task))
    assert missing == internal


def test_a_task_hears_of_its_app(app):
    class Bound(nbcanvas.Task):
        def on_bound(self, app):
            self.heard = app

    @app.task(base=Bound)
    def work():
        pass

    assert work.heard is app is work.app


def test_a_task_is_redefined(app, gate):
    def define(answer):
        exec(f"def work():\n    return {answer!r}", namespace := {})
        return app.task(namespace["work"], name="work")

    old = define("old")
    sig = old.s()
    assert sig.delay().get(timeout=30) == "old"
    new = define("new")
    assert app.tasks["work"] is new
    assert new.delay().get(timeout=30) == "new"
    assert signature("work").delay().get(timeout=30) == "new"
    assert sig.delay().get(timeout=30) == "new"  # the name counts, in old cells too


def test_a_running_run_keeps_the_old_definition(app, tasks, gate):
    def define(answer):
        exec(f"def work(x):\n    return {answer!r}", namespace := {})
        return app.task(namespace["work"], name="work")

    work = define("old")
    result = (tasks.held.s(1) | work.s())()
    define("new")
    gate.set()
    assert result.get(timeout=30) == "old"
    assert (tasks.held.s(1) | signature("work"))().get(timeout=30) == "new"


def test_several_apps_side_by_side():
    before = current_app()
    one, two = App("one", set_as_current=False), App("two", set_as_current=False)
    try:
        assert current_app() is before

        @one.task(name="work")
        def work_of_one():
            return "one"

        @two.task(name="work")
        def work_of_two():
            return "two"

        first, second = work_of_one.delay(), work_of_two.delay()
        assert (first.get(timeout=30), second.get(timeout=30)) == ("one", "two")
        assert two.AsyncResult(first.id).state == "PENDING"
        assert one.signature("work").delay().get(timeout=30) == "one"
        assert (one.signature("work") | work_of_one.si()).delay().get(timeout=30) == "one"
        assert two.send_task("work").get(timeout=30) == "two"
        assert first.app is one and second.app is two
    finally:
        one.close()
        two.close()


def test_an_app_is_a_context_manager():
    before = current_app()
    with App("block", set_as_current=False) as app:

        @app.task
        def work():
            return 1

        assert work.delay().get(timeout=30) == 1
    assert app.worker is None
    assert current_app() is before


def test_signatures_of_an_app(app):
    sig = app.signature("add", args=(1, 2))
    assert isinstance(sig, Signature) and sig.app is app
    assert app.signature(dict(sig)).app is app


def test_the_registry(app, tasks):
    assert app.tasks["add"] is tasks.add and "add" in app.tasks
    with pytest.raises(NotRegistered, match="did you mean 'add'"):
        app.tasks["addd"]
    with pytest.raises(KeyError):
        app.tasks["addd"]
    built_in = {"celery.accumulate", "celery.map", "celery.starmap", "celery.chunks", "celery.backend_cleanup"}
    assert built_in <= set(app.tasks)
    app.tasks.unregister("add")
    assert "add" not in app.tasks
    with pytest.raises(NotRegistered):
        app.tasks.unregister("add")


def test_handles_from_the_app(app, tasks):
    one = tasks.add.delay(1, 1)
    made = app.GroupResult("g", [one])
    assert isinstance(made, GroupResult) and made.get(timeout=30) == [2]
    assert app.ResultSet([one]).get(timeout=30) == [2]


def test_the_app_and_its_results_travel(app, tasks):
    assert pickle.loads(pickle.dumps(app)) is current_app()
    result = tasks.add.delay(1, 1)
    assert pickle.loads(pickle.dumps(result)).get(timeout=30) == 2


def test_seeded_ids(app, tasks):
    def ids():
        app.seed_ids(7)
        result = (tasks.add.s(1, 1) | tasks.add.s(2))()
        result.get(timeout=30)
        return result.as_list()

    first = ids()
    app.seed_ids(None)
    assert tasks.add.delay(1, 1).id not in first
    assert ids() == first


# -- routes ---------------------------------------------------------------------------------------------------------


def queue_of(app, name, **options):
    """Return where a task really waits: a call that is not yet due, looked for among the depths."""
    result = app.send_task(name, countdown=600, **options)
    (queue,) = [name for name, count in app.broker.depth().items() if count]
    result.revoke()
    return queue


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (None, "celery"),
        ({"feeds.tasks.import_feed": "feeds"}, "feeds"),
        ({"feeds.tasks.import_feed": {"queue": "feeds"}}, "feeds"),
        ({"feeds.tasks.*": {"queue": "globbed"}}, "globbed"),
        ({re.compile(r"(feeds|web)\.tasks\..*"): {"queue": "matched"}}, "matched"),
        ({"other.*": {"queue": "other"}}, "celery"),
        ([("feeds.tasks.*", {"queue": "listed"}), ("web.tasks.*", {"queue": "web"})], "listed"),
        ([{"other.*": "other"}, {"feeds.*": "second"}], "second"),
        (([("web.tasks.*", {"queue": "web"}), ("feeds.tasks.*", {"queue": "in a list"})],), "in a list"),
        (lambda name, args, kwargs, options, task=None, **kw: {"queue": name.split(".")[0]}, "feeds"),
        ([lambda name, args, kwargs, options, task=None, **kw: None, {"feeds.*": "after"}], "after"),
        ({"feeds.tasks.import_feed": {"routing_key": "by.key"}}, "celery"),  # a key for the default queue's exchange
    ],
    ids=[
        "none",
        "name",
        "options",
        "glob",
        "pattern",
        "no match",
        "pairs",
        "second table",
        "list of pairs",
        "function",
        "after a function",
        "routing key",
    ],
)
def test_routes(app, routes, expected):
    @app.task(name="feeds.tasks.import_feed")
    def import_feed():
        pass

    app.conf.task_routes = routes
    assert queue_of(app, "feeds.tasks.import_feed") == expected
    assert queue_of(app, "feeds.tasks.import_feed", queue="said") == "said"


def test_routes_of_the_task_and_of_the_settings(app):
    @app.task(name="a", queue="own")
    def a():
        pass

    assert queue_of(app, "a") == "own"
    app.conf.task_routes = {"a": "routed", "c": "routed"}
    assert [queue_of(app, name) for name in "ac"] == ["own", "routed"]  # as Celery's router merges them
    app.conf.task_default_queue = "default"
    assert queue_of(app, "b") == "default"


def test_a_route_by_the_name_of_a_function(app, monkeypatch):
    module = types.ModuleType("some_routes")
    module.route_task = lambda name, args, kwargs, options, task=None, **kw: {"queue": "by-name"}
    monkeypatch.setitem(sys.modules, "some_routes", module)
    app.conf.task_routes = ("some_routes.route_task",)
    assert queue_of(app, "a") == "by-name"


def test_a_route_may_depend_on_the_arguments(app):
    app.conf.task_routes = lambda name, args, kwargs, options, task=None, **kw: {"queue": f"for-{args[0]}"}
    assert [queue_of(app, "a", args=(user,)) for user in ("ann", "bob")] == ["for-ann", "for-bob"]


def test_routes_that_are_none(app):
    for routes in ("no.such.function", [3]):
        app.conf.task_routes = routes
        with pytest.raises(ImproperlyConfigured, match="task_routes"):
            app.send_task("a").get(timeout=30)


# -- control and inspect --------------------------------------------------------------------------------------------


def test_inspect(app, tasks, gate):
    inspect = app.control.inspect()
    assert inspect.ping() is None  # no worker yet
    app.start_worker(concurrency=1)
    running = tasks.held.delay(1)
    waiting = tasks.add.delay(1, 1)
    later = tasks.add.apply_async((1, 1), countdown=600)
    (name,) = inspect.ping()
    until = time.monotonic() + 30
    while not inspect.active()[name] and time.monotonic() < until:
        time.sleep(0.002)
    (active,) = inspect.active()[name]
    assert active["id"] == running.id and active["name"] == "held" and active["args"] == [1]
    (reserved,) = inspect.reserved()[name]
    assert reserved["id"] == waiting.id
    (scheduled,) = inspect.scheduled()[name]
    assert scheduled["request"]["id"] == later.id
    assert inspect.query_task(running.id)[name][running.id][0] == "active"
    assert "add" in inspect.registered()[name]
    assert inspect.stats()[name]["pool"]["max-concurrency"] == 1
    assert inspect.active_queues()[name][0]["name"] == "celery"
    assert app.control.ping() == [{name: {"ok": "pong"}}]
    later.revoke()
    assert later.id in inspect.revoked()[name]
    gate.set()
    assert waiting.get(timeout=30) == 2


def test_revoke_and_terminate(app, tasks):
    @app.task
    def busy():
        for _ in range(12_000):
            time.sleep(0.005)

    result = busy.delay()
    until = time.monotonic() + 30
    while not app.control.inspect().active() or not next(iter(app.control.inspect().active().values())):
        assert time.monotonic() < until
        time.sleep(0.002)
    app.control.revoke(result.id)
    assert not result.ready()  # it runs on
    app.control.terminate(result.id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert tasks.add.delay(1, 1).get(timeout=30) == 2


def test_what_is_revoked_just_as_it_starts_runs_and_says_so(app, tasks, monkeypatch):
    def asked(*args):
        found = refusal(*args)
        app.control.revoke("late")
        return found

    monkeypatch.setattr("nbcanvas.worker.embedded.refusal", asked)
    assert tasks.add.apply_async((1, 1), task_id="late").get(timeout=30) == 2


def test_revoke_by_stamped_headers(app, tasks):
    stamped, other = tasks.add.s(1, 1), tasks.add.s(2, 2)
    stamped.stamp(experiment=42)
    other.stamp(experiment=43)
    first, second = stamped.apply_async(countdown=600), other.apply_async(countdown=0.1)
    app.control.revoke_by_stamped_headers({"experiment": [42]})
    with pytest.raises(TaskRevokedError):
        first.get(timeout=30)
    assert second.get(timeout=30) == 4
    with pytest.raises(TaskRevokedError):  # from now on, too
        stamped.delay().get(timeout=30)


def test_purge(app, tasks, gate):
    app.start_worker(concurrency=1)
    running = tasks.held.delay(1)
    until = time.monotonic() + 30
    while app.broker.depth().get("celery") and time.monotonic() < until:
        time.sleep(0.002)
    results = [tasks.add.delay(1, 1) for _ in range(3)]
    assert app.control.purge() == 3
    for result in results:
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    gate.set()
    assert running.get(timeout=30) == 1


def test_rate_and_time_limits_can_be_changed(app, tasks):
    app.control.rate_limit("add", "5/s")
    assert tasks.add.rate_limit == "5/s"
    app.control.rate_limit("add", None)
    app.control.time_limit("add", soft=10, hard=20)
    assert (tasks.add.soft_time_limit, tasks.add.time_limit) == (10, 20)
    with pytest.raises(NotRegistered):
        app.control.rate_limit("ad", "5/s")


def test_a_limit_is_lifted_while_a_task_is_about_to_wait_for_it(app, monkeypatch):
    slow = app.task(lambda x: x, name="slow", rate_limit="1/h")
    app.start_worker(1)
    publish = app.broker.publish

    def late(messages):
        if any(message.due is not None for message in messages):
            app.control.rate_limit("slow", None)
        publish(messages)

    monkeypatch.setattr(app.broker, "publish", late)
    assert [result.get(timeout=30) for result in [slow.delay(i) for i in range(3)]] == [0, 1, 2]


def test_nothing_was_logged_as_an_error(app, tasks, caplog):
    with caplog.at_level(logging.WARNING, logger="nbcanvas"):
        tasks.fail.delay().get(timeout=30, propagate=False)
    assert not caplog.records
