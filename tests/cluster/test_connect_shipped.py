"""Tasks shipped by value run on workers that allow it; what is not signed as it should be is not even unpacked."""

import json
import textwrap
import time

import pytest

from nbcanvas import App, chain, chord, submit
from nbcanvas.app.connecting import connect
from nbcanvas.app.shipped import Shipping, signing_key
from nbcanvas.broker.envelope import open_
from nbcanvas.errors import ImproperlyConfigured, NotSerializable, UntrustedTask
from tests.cluster.fleet import Fleet

pytestmark = pytest.mark.servers

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


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(worker, letter, canary):
    with pytest.raises(UntrustedTask) as caught:
        worker.shipping.admit(letter)
    assert not canary.exists()
    assert "fly" not in worker.tasks
    assert KEY.decode() not in str(caught.value)
    return str(caught.value)


def test_what_is_signed_is_taken(worker, letters, task, canary):
    [letter] = letters(task.s(1))
    worker.shipping.admit(letter)
    assert canary.exists()
    assert worker.tasks["fly"].version == task.version
    assert worker.post.read(letter).call.version == task.version


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
    for _ in range(6):
        worker.shipping.admit(letter)
    with pytest.raises(UntrustedTask, match="came before"):
        worker.shipping.admit(letter)


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
"""


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_canvas_of_cells_runs_on_a_worker_that_allows_it(redis_url, tmp_path, pool):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    with Fleet(redis_url) as fleet, App("notebook", set_as_current=False) as notebook:
        fleet.ours(pool=pool, arguments=("--allow-shipped", "--signing-key", str(file)))
        app = connect(redis_url, app=notebook, ship=True, signing_key=file)
        names = cell(TASKS, app=app)
        local, total, shaky = names["local"], names["total"], names["shaky"]
        add = app.signature("add", (1,))  # the worker's own
        canvas = chord([local.s(n) for n in range(4)], total.s()) | local.s() | add
        assert submit(canvas, app=app).get(timeout=20) == 507
        assert submit(chain(shaky.s(3), local.s()), app=app).get(timeout=20) == 103
        names["offset"] = 1000  # the next cell
        assert submit(local.s(1), app=app).get(timeout=20) == 1001
        app.close()


def test_a_worker_that_does_not_allow_it_fails_the_task_and_says_how(redis_url, tmp_path, client, task, canary):
    with Fleet(redis_url) as fleet:
        worker = fleet.ours()
        client.fleet.checks = False
        run = submit(task.s(1), app=client)
        with pytest.raises(UntrustedTask, match="--allow-shipped"):
            run.get(timeout=20)
        other = tmp_path / "other"
        other.write_bytes(b"another key, of somebody else...")
        worker.stop()
        fleet.ours(arguments=("--allow-shipped", "--signing-key", str(other)))
        with pytest.raises(UntrustedTask, match="signature is wrong"):
            submit(task.s(1), app=client).get(timeout=20)
        assert not canary.exists()
