"""Tasks shipped by value run on workers that allow it; what is not signed as it should be is not even unpacked."""

import json
import textwrap
import time

import pytest

from nbcanvas import App, chain, chord, submit
from nbcanvas.app.connecting import connect
from nbcanvas.app.shipped import Shipping, signing_key
from nbcanvas.broker.envelope import open_
from nbcanvas.errors import ImproperlyConfigured, NotRegistered, NotSerializable, UntrustedTask
from nbcanvas.ledger.port import Delivery
from nbcanvas.worker.admission import admit, refusal
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

KEY = b"a key that both of them know of!"


def cell(source, **names):
    """Run a cell: what it defines belongs to ``__main__``, as in a notebook."""
    namespace = {"__name__": "__main__", **names}
    exec(textwrap.dedent(source), namespace)
    return namespace


@pytest.fixture
def client(redis_url):
    with App("client", broker=redis_url, set_as_current=False) as app:
        app.shipping = Shipping(app, KEY)
        yield app


@pytest.fixture
def worker(redis_url):
    """What a worker has: the same server, the same key."""
    with App("worker", broker=redis_url, set_as_current=False) as app:
        app.shipping = Shipping(app, KEY, accept=True)
        yield app


@pytest.fixture
def canary(tmp_path):
    """A file that is there once the task's code has been unpacked anywhere but here."""
    return tmp_path / "canary"


@pytest.fixture
def task(client, canary):
    """A task whose code sings when it is unpacked."""
    return cell(
        """
        class Bird:
            def __reduce__(self):
                return open, (path, "w")
        bird = Bird()
        @app.task(name="fly")
        def fly(x, secret_token=None):
            return x, bird
        """,
        app=client,
        path=str(canary),
    )["fly"]


@pytest.fixture
def letters(client, redis_url):
    """Send a canvas, and return what lies in the queue, the oldest first."""

    def send(sig):
        client.submit(sig)
        return taken(client)

    return send


def taken(app):
    raws = app.redis.call("LRANGE", "celery", "0", "-1")
    app.redis.call("DEL", "celery")
    return [open_(raw) for raw in reversed(raws)]


def received(worker, letter, **how):
    """What a worker makes of a letter that it has taken."""
    return admit(worker, worker.post.read, Delivery("1", "celery", letter, b"", **how), letter)


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(worker, letter, canary):
    with pytest.raises(UntrustedTask) as caught:
        worker.shipping.admit(letter)
    assert not canary.exists()
    assert KEY.decode() not in str(caught.value)
    return str(caught.value)


def test_what_is_signed_is_taken(worker, letters, task, canary):
    [letter] = letters(task.s(1))
    message = received(worker, letter)
    assert canary.exists()
    assert worker.tasks.find("fly", message.call.version).name == "fly"


def test_unsigned(worker, letters, task, canary):
    [letter] = letters(task.s(1))
    del letter.headers["shipped"]["mac"]
    assert "not signed" in refused(worker, letter, canary)


def test_signed_with_another_key(worker, letters, task, client, canary):
    client.shipping._key = b"another key, of somebody else..."
    [letter] = letters(task.s(1))
    assert "signature is wrong" in refused(worker, letter, canary)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("task", "celery.backend_cleanup"),
        ("id", "another"),
        ("root_id", "another"),
        ("group", "another"),
        ("eta", "2031-01-01T00:00:00+00:00"),
        ("expires", "2031-01-01T00:00:00+00:00"),
        ("retries", 3),
        ("timelimit", [1, 1]),
        ("ignore_result", True),
        ("stamps", {"by": "me"}),
        ("shadow", "harmless"),
        ("extra", 1),
    ],
)
def test_a_changed_header(worker, letters, task, canary, header, value):
    [letter] = letters(task.s(1))
    letter.headers[header] = value
    assert "signature is wrong" in refused(worker, letter, canary)


@pytest.mark.parametrize(
    "change",
    [
        lambda letter: setattr(letter, "body", letter.body[:-4]),
        lambda letter: setattr(letter, "body", letter.body.replace(b"[1]", b"[2]")),
        lambda letter: setattr(letter, "content_type", "application/x-python-serialize"),
        lambda letter: letter.headers["shipped"].update(at=letter.headers["shipped"]["at"] + 1),
        lambda letter: letter.headers["shipped"]["codes"].update(fly="0" * 64),
        lambda letter: letter.headers["shipped"]["codes"].update(more="0" * 64),
        lambda letter: letter.headers["shipped"].update(mac="0" * 64),
    ],
    ids=["truncated", "arguments", "content type", "time", "code", "codes", "mac"],
)
def test_a_changed_message(worker, letters, task, canary, change):
    [letter] = letters(task.s(1))
    change(letter)
    assert "signature is wrong" in refused(worker, letter, canary)


@pytest.mark.parametrize("header", [None, 1, "x", [], {}, {"codes": 1, "at": 1, "mac": "0" * 64}, {"mac": 1}])
def test_garbage_in_the_header(worker, letters, task, canary, header):
    [letter] = letters(task.s(1))
    letter.headers["shipped"] = header
    assert "signed" in refused(worker, letter, canary)


def test_code_that_was_exchanged_on_the_server(worker, letters, task, client, canary):
    [letter] = letters(task.s(1))
    [key] = client.redis.call("KEYS", "nbcanvas-code-*")
    client.redis.call("SET", key, b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    assert "not the one that was signed" in refused(worker, letter, canary)
    client.redis.call("DEL", key)
    [again] = letters(task.s(1))
    assert "not there" in refused(worker, again, canary)


def test_a_message_that_came_before(worker, letters, task, canary):
    [letter] = letters(task.s(1))
    letter.properties["delivery_tag"] = "one"
    worker.shipping.admit(letter)
    letter.properties["delivery_tag"] = "two"
    with pytest.raises(UntrustedTask, match="came before"):
        worker.shipping.admit(letter)


def test_a_message_that_its_worker_did_not_finish_comes_again_but_not_for_ever(worker, letters, task):
    [letter] = letters(task.s(1))
    received(worker, letter)
    for lost in range(1, 6):
        received(worker, letter, redelivered=lost, began=True)
    with pytest.raises(UntrustedTask, match="came before"):
        received(worker, letter, redelivered=6, began=True)


def test_a_message_that_waits_for_its_eta_is_given_back_as_often_as_workers_come_and_go(worker, letters, task):
    [letter] = letters(task.s(1).set(countdown=3600))
    for _ in range(20):
        assert received(worker, letter).due is not None


def test_what_tells_replays_outlives_the_message(worker, letters, task, monkeypatch):
    days, start = 86_400, time.time()
    [letter] = letters(task.s(1).set(countdown=3 * days))
    letter.properties["delivery_tag"] = "one"
    received(worker, letter)
    [code] = worker.redis.call("KEYS", "nbcanvas-code-*")
    assert worker.redis.call("TTL", code) > 4 * days
    [mark] = worker.redis.call("KEYS", "nbcanvas-shipped-*")
    gone = time.time() + worker.redis.call("TTL", mark)  # when nobody knows any more that it came
    letter.properties["delivery_tag"] = "two"
    with pytest.raises(UntrustedTask, match="came before"):
        received(worker, letter)
    worker.redis.call("DEL", mark)
    monkeypatch.setattr("nbcanvas.app.shipped.time", lambda: start + 3.9 * days)
    received(worker, letter)  # so long it is taken
    worker.redis.call("DEL", mark)
    monkeypatch.setattr("nbcanvas.app.shipped.time", lambda: gone)
    with pytest.raises(UntrustedTask, match="signed"):
        received(worker, letter)


def test_without_its_signature_nobody_knows_the_task(worker, letters, task):
    [letter] = letters(task.s(1))
    version = received(worker, letter).call.version
    [bare] = letters(task.s("whatever"))
    del bare.headers["shipped"]
    message = received(worker, bare)
    refused = refusal(worker, worker.tasks.find(message.call.task, message.call.version), message, time.time())
    assert isinstance(refused.exc, NotRegistered)

    def by_plan(letter):  # a plan that somebody wrote names the version
        message = worker.post.read(letter)
        message.call.version = version
        return message

    with pytest.raises(UntrustedTask, match="not signed"):
        admit(worker, by_plan, Delivery("1", "celery", bare, b""), bare)


def test_a_worker_signs_what_signed_messages_cause_and_nothing_else(worker, letters, task):
    [letter] = letters(task.s(1))
    signed = received(worker, letter)
    assert "shipped" in worker.post.write(signed).headers
    del letter.headers["shipped"]  # somebody else's message that names the same run
    assert letter.headers["root_id"] == signed.root_id
    assert "shipped" not in worker.post.write(received(worker, letter)).headers


def test_runs_that_were_begun_before_many_others_are_signed_for(worker, client, letters, task, monkeypatch):
    monkeypatch.setattr("nbcanvas.app.shipped._ROOTS", 1)
    taken_in = [received(worker, letter) for n in range(3) for letter in letters(task.s(n))]
    assert all("shipped" in worker.post.write(message).headers for message in taken_in)
    taken_in[0].root_id = str(taken_in[0].root_id)
    with pytest.raises(UntrustedTask, match="too long ago"):
        client.post.write(taken_in[0])


def test_a_worker_keeps_its_own_task_of_that_name(worker, letters, task, canary):
    @worker.task(name="fly")
    def fly(x):
        return x

    [letter] = letters(task.s(1))
    with pytest.raises(UntrustedTask, match="task of its own"):
        received(worker, letter)
    assert not canary.exists()
    assert worker.tasks["fly"](1) == 1


def test_other_settings_do_not_cost_the_signature(client, letters, task):
    client.conf.task_compression = "gzip"
    assert "shipped" in letters(task.s(1))[0].headers


def test_a_message_that_ended_does_not_come_again(worker, letters, task):
    [letter] = letters(task.s(1))
    worker.shipping.admit(letter)
    document = {"status": "SUCCESS", "result": 1, "traceback": None, "children": [], "task_id": letter.headers["id"]}
    worker.redis.call("SET", f"celery-task-meta-{letter.headers['id']}", json.dumps(document))
    with pytest.raises(UntrustedTask, match="came before"):
        worker.shipping.admit(letter)


def test_too_old_and_from_the_future(worker, letters, task, client, canary, monkeypatch):
    now = time.time()
    for at, says in ((now - 90_000, "ago"), (now + 900, "future")):
        monkeypatch.setattr("nbcanvas.app.shipped.time", lambda at=at: at)
        [letter] = letters(task.s(1))
        monkeypatch.setattr("nbcanvas.app.shipped.time", time.time)
        assert says in refused(worker, letter, canary)


def test_code_of_another_name(worker, letters, task, client, canary):
    [letter] = letters(task.s(1))
    codes = letter.headers["shipped"]["codes"]
    codes["other"] = codes["fly"]
    letter.headers["task"] = "other"
    shipped = letter.headers["shipped"]
    shipped["mac"] = client.shipping._mac(letter, codes, shipped["at"])
    with pytest.raises(UntrustedTask, match="that of 'fly'"):
        worker.shipping.admit(letter)
    assert "other" not in worker.tasks


def test_who_accepts_none_says_how(client, letters, task):
    [letter] = letters(task.s(1))
    with pytest.raises(UntrustedTask, match="--allow-shipped"):
        client.shipping.admit(letter)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_what_goes_along_is_told(client):
    cell(
        """
        api_token = "s3cret"
        table = list(range(20_000))
        def helper(x): return len(table) + x
        @app.task
        def work(x): return helper(x), api_token
        """,
        app=client,
    )
    [cargo] = client.shipping.cargo()
    told = {one.name: one for one in cargo.names}
    assert set(told) == {"table", "helper", "api_token"}
    assert cargo.names[0].name == "table"
    assert told["table"].size > 20_000
    assert "secret" in told["api_token"].warning
    assert "s3cret" not in repr(cargo)


def test_too_much_is_refused_and_says_what(client):
    client.shipping._largest = 10_000
    work = cell(
        """
        table = list(range(20_000))
        @app.task
        def work(x): return len(table)
        """,
        app=client,
    )["work"]
    with pytest.raises(NotSerializable, match="table"):
        work.delay(1)
    assert taken(client) == []


def test_the_key(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="NBCANVAS_SIGNING_KEY"):
        signing_key(environ={})
    with pytest.raises(ImproperlyConfigured, match="5 bytes") as caught:
        signing_key(environ={"NBCANVAS_SIGNING_KEY": "short"})
    assert "short" not in str(caught.value).replace("too short", "")
    with pytest.raises(ImproperlyConfigured, match="No such file"):
        signing_key(tmp_path / "none")
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert signing_key(tmp_path / "key") == KEY


def test_what_signs_does_not_travel(client):
    import pickle

    with pytest.raises(TypeError, match="key"):
        pickle.dumps(client.shipping)
    assert KEY.decode() not in repr(client.shipping)


# -- on real workers --------------------------------------------------------------------------------------------------

TASKS = """
offset = 100
def helper(x): return x + offset
@app.task
def local(x): return helper(x)
@app.task
def total(numbers): return sum(numbers)
@app.task(bind=True, max_retries=2, default_retry_delay=0.02)
def shaky(self, x):
    if self.request.retries < 1: raise self.retry()
    return x
@app.task(bind=True)
def down(self, n):
    if n: raise self.replace(self.s(n - 1))
    return "down"
@app.task
def fails(*_): raise ValueError("on purpose")
@app.task
def heard(request, exc, traceback): open(path, "w").write(str(exc))
@app.task
def spawn(n): return spawn.delay(n - 1).id if n else "spawned"
"""


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_canvas_of_cells_runs_on_a_worker_that_allows_it(redis_url, tmp_path, pool):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    with Fleet(redis_url) as fleet, App("notebook", set_as_current=False) as notebook:
        fleet.ours(pool=pool, arguments=("--allow-shipped", "--signing-key", str(file)))
        app = connect(redis_url, app=notebook, ship=True, signing_key=file)
        names = cell(TASKS, app=app, path=str(tmp_path / "heard"))
        local, total, shaky = names["local"], names["total"], names["shaky"]
        add = app.signature("add", (1,))  # the worker's own
        canvas = chord([local.s(n) for n in range(4)], total.s()) | local.s() | add
        assert submit(canvas, app=app).get(timeout=60) == 507
        assert submit(chain(shaky.s(3), local.s()), app=app).get(timeout=60) == 103
        assert submit(chain(*[local.s(0), *[local.s()] * 7]), app=app).get(timeout=60) == 800
        assert submit(names["down"].s(2), app=app).get(timeout=60) == "down"
        assert app.AsyncResult(submit(names["spawn"].s(1), app=app).get(timeout=60)).get(timeout=60) == "spawned"
        with pytest.raises(ValueError, match="on purpose"):
            submit(names["fails"].s().on_error(names["heard"].s()), app=app).get(timeout=60)
        until(lambda: (tmp_path / "heard").exists() and (tmp_path / "heard").read_text() == "on purpose")
        names["offset"] = 1000  # the next cell
        assert submit(local.s(1), app=app).get(timeout=60) == 1001
        app.close()


def test_a_worker_that_does_not_allow_it_fails_the_task_and_says_how(redis_url, tmp_path, client, task, canary):
    with Fleet(redis_url) as fleet:
        worker = fleet.ours()
        client.fleet.checks = False
        run = submit(task.s(1), app=client)
        with pytest.raises(UntrustedTask, match="--allow-shipped"):
            run.get(timeout=60)
        other = tmp_path / "other"
        other.write_bytes(b"another key, of somebody else...")
        worker.stop()
        fleet.ours(arguments=("--allow-shipped", "--signing-key", str(other)))
        with pytest.raises(UntrustedTask, match="signature is wrong"):
            submit(task.s(1), app=client).get(timeout=60)
        assert not canary.exists()


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_one_source_with_other_globals_is_another_task(redis_url, tmp_path, pool):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    with Fleet(redis_url) as fleet:
        fleet.ours(pool=pool, concurrency=1, arguments=("--allow-shipped", "--signing-key", str(file)))
        apps = [App(f"notebook {n}", broker=redis_url, set_as_current=False) for n in range(2)]
        tasks = []
        for number, app in enumerate(apps):
            app.shipping = Shipping(app, KEY)
            app.fleet.checks = False
            source = "@app.task(name='which')\ndef which(x): return x, mine"
            tasks.append(cell(source, app=app, mine=number)["which"])
        # The first one's message has come, and waits, when the second one's code comes.
        late = submit(tasks[0].s("late").set(countdown=1.0), app=apps[0])
        assert submit(tasks[0].s("a"), app=apps[0]).get(timeout=60) == ["a", 0]
        assert submit(tasks[1].s("b"), app=apps[1]).get(timeout=60) == ["b", 1]
        assert late.get(timeout=60) == ["late", 0]
        for app in apps:
            app.close()


def test_no_unsigned_message_reaches_a_shipped_task(redis_url, tmp_path, client, task):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    with Fleet(redis_url) as fleet, App("stranger", broker=redis_url, set_as_current=False) as stranger:
        fleet.ours(arguments=("--allow-shipped", "--signing-key", str(file)))
        names = cell("@app.task(name='double')\ndef double(x): return 2 * x", app=client)
        client.fleet.checks = stranger.fleet.checks = False
        run = submit(names["double"].s(1), app=client)
        assert run.get(timeout=60) == 2
        double, add = stranger.signature("double", (5,)), stranger.signature("add", (1, 2))
        for canvas in (double, add | stranger.signature("double")):
            for options in ({}, {"root_id": run.id}):
                with pytest.raises(NotRegistered):
                    canvas.apply_async(**options).get(timeout=60)
