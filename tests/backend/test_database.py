"""What is special about results in a database: other processes, other days, and databases in a bad way."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time

import pytest
import sqlalchemy as sa

from nbcanvas import App, chain, group
from nbcanvas.backend.database import DatabaseBackend
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.port import Record, StoredRun
from nbcanvas.errors import ChordError, CorruptResult, ImproperlyConfigured, RemoteError
from nbcanvas.plan import Call
from nbcanvas.protocol.payload import pack, unpack
from tests.servers import until

COLUMNS = "celery_taskmeta (task_id, status, result, date_done)"


def rows(file, what="*", table="celery_taskmeta"):
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT {what} FROM {table}")]


def change(file, statement, *values):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


def done(value=None, task="t", **settings):
    call = Call("x", task, (1, "a"), stamps={"who": "me"})
    return Record("SUCCESS", pack(value), done=time(), settled=0, call=call, worker="w/1", **settings)


# -- other processes ---------------------------------------------------------------------------------------------------


def test_another_process_reads_what_this_one_wrote(database, open_again):
    record = Record(
        "SUCCESS",
        pack({"ü": (1, None)}),
        children=[(("child", None), None)],
        done=1e9 + 0.25,
        settled=0,
        call=Call("t", "add", pack((2, 3)), stamps={"run": "7"}),
        retries=2,
        worker="w/1",
        given=(1,),
    )
    record.call.payload = (2, 3)
    database.settle("t", record)
    database.settle("f", Record("FAILURE", exc=KeyError("k"), traceback="tb", done=time(), settled=0))
    assert database.flush(60)
    other = open_again()
    found = other.get("t")
    assert (found.state, unpack(found.payload), found.done) == ("SUCCESS", {"ü": [1, None]}, 1e9 + 0.25)
    assert (found.call.task, found.call.payload, found.call.stamps) == ("add", (1, 2, 3), {"run": ["7"]})
    assert (found.retries, found.worker, list(found.children)) == (2, "w/1", [[["child", None], None]])
    assert (type(other.get("f").exc), other.get("f").exc.args, other.get("f").traceback) == (KeyError, ("k",), "tb")


def test_who_watches_a_task_of_another_process_hears_of_its_end(database, open_again):
    other, ended = open_again(), threading.Event()
    seen = []
    other.watch(["t"], lambda task_id, record: (seen.append(unpack(record.payload)), ended.set()))
    database.update("t", Record("STARTED"))
    database.settle("t", done([1, 2]))
    assert ended.wait(60)
    assert seen == [[1, 2]]
    assert unpack(other.get("t").payload) == [1, 2]


def test_two_processes_write_into_one_file_at_once(file):
    program = f"""
import sys
from nbcanvas import App, group
app = App("x", backend="db+sqlite:///{file}")
add = app.task(name="add")(lambda x, y: x + y)
for _ in range(5):
    result = group(add.s(i, i) for i in range(200))()
    assert result.get(timeout=60) == [2 * i for i in range(200)]
"""
    workers = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    for worker in workers:
        said = worker.communicate(timeout=100)[1].decode()
        assert (worker.returncode, "Traceback" in said) == (0, False), said  # where all is slow, that writing was slow
    assert rows(file, "status, count(*) AS n") == [{"status": "SUCCESS", "n": 3000}]


def test_a_success_of_another_process_is_not_written_over(database, open_again):
    other = open_again()
    database.settle("t", done("first"))
    database.flush(60)
    other.update("t", Record("STARTED"))
    other.settle("t", Record("FAILURE", exc=ValueError("late"), done=time(), settled=0))
    other.flush(60)
    assert unpack(open_again().get("t").payload) == "first"


def test_what_this_process_runs_again_under_the_same_id_is_written_over(database, open_again):
    database.settle("t", done("yesterday"))
    database.flush(60)
    today = open_again()
    today.expect(["t"])
    assert today.get("t") is None  # not yesterday's
    today.settle("t", done("today"))
    today.flush(60)
    assert unpack(open_again().get("t").payload) == "today"


def test_a_forked_child_writes_its_own_and_not_its_parents(database, file):
    database.settle("parent", done(1))
    child = os.fork()
    if not child:
        try:
            database.settle("child", done(2))
            os._exit(0 if database.flush(60) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert database.flush(60)
    database.settle("later", done(3))
    database.flush(60)
    assert sorted(row["task_id"] for row in rows(file)) == ["child", "later", "parent"]


def test_what_is_on_its_way_at_the_end_of_the_process_arrives(file):
    program = f"""
from nbcanvas import App, group
app = App("x", backend="db+sqlite:///{file}")
add = app.task(name="add")(lambda x, y: x + y)
group(add.s(i, i) for i in range(500))().get(timeout=60)
add.delay(1, 1).get(timeout=60)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert len(rows(file)) == 501


# -- values ------------------------------------------------------------------------------------------------------------


class Odd(Exception):
    """Wants what nobody gives it when it is made again."""

    def __init__(self, one, two):
        super().__init__(one)


class Plain:
    """A value JSON has no word for."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return other.n == self.n

    __hash__ = None


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize(
    "value",
    [None, 0, "", "ünï\x00cöde 😀", b"\xff", {1, 2}, Plain(3), {"n": None}, datetime(2026, 1, 2, tzinfo=UTC), 1e400],
)
def test_any_value_comes_back(database, file, open_again, serializer, value):
    encoding = Encoding(serializer, [serializer])
    writer = open_again(encoding=encoding)
    writer.settle("t", done(value))
    writer.flush(60)
    assert unpack(open_again(encoding=encoding).get("t").payload) == value


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize(
    ("exc", "type_", "args"),
    [
        (ValueError("ü", 1, [2]), ValueError, ("ü", 1, [2])),
        (ChordError("Dependency x raised"), ChordError, ("Dependency x raised",)),
        (Odd("a", "b"), RemoteError, None),
        (RemoteError("proj.Boom", "1"), RemoteError, None),
        (ValueError(Plain(1)), ValueError, None),
    ],
    ids=repr,
)
def test_exceptions_come_back(open_again, serializer, exc, type_, args):
    encoding = Encoding(serializer, [serializer])
    writer = open_again(encoding=encoding)
    writer.settle("t", Record("FAILURE", exc=exc, done=time(), settled=0))
    writer.flush(60)
    found = open_again(encoding=encoding).get("t").exc
    assert type(found) is type_ or (type_ is RemoteError and isinstance(found, RemoteError))
    assert args is None or found.args == args


def test_an_exception_class_is_never_imported_and_nothing_else_is_called(database, open_again, file):
    database.settle("t", Record("FAILURE", exc=ValueError(), done=time(), settled=0))
    database.flush(60)
    for name, module in (("system", "os"), ("Popen", "subprocess"), ("DecimalTuple", "this"), ("x.y", "json")):
        document = f'{{"exc_type": "{name}", "exc_module": "{module}", "exc_message": ["touch {file}.bad"]}}'
        change(file, "UPDATE celery_taskmeta SET result = ?", document.encode())
        found = open_again().get("t").exc
        assert isinstance(found, RemoteError)
        assert (found.exc_type, str(found)) == (f"{module}.{name}", f"touch {file}.bad")
    assert not Path(f"{file}.bad").exists()
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"{", b"\x80\x04 not a pickle", b"\x80\x04cnowhere\nNothing\n.", b'"text"'], ids=repr
)
def test_a_row_that_cannot_be_understood_says_so_and_is_no_trouble_for_the_others(database, open_again, file, data):
    for one in ("bad", "good"):
        database.settle(one, Record("FAILURE", exc=ValueError("v"), done=time(), settled=0))
    database.flush(60)
    change(file, "UPDATE celery_taskmeta SET result = ? WHERE task_id = 'bad'", data)
    found = open_again().results([Call(one, "t", ()) for one in ("bad", "good")])
    assert type(found["good"].exc) is ValueError
    assert type(found["bad"].exc) is CorruptResult
    assert "the stored result of task bad cannot be understood" in str(found["bad"].exc)


def test_what_an_older_celery_pickled_is_read(open_again, file):
    backend = open_again()
    change(
        file,
        f"INSERT INTO {COLUMNS} VALUES ('t', 'SUCCESS', ?, '2024-01-02 03:04:05')",
        pickle.dumps({"a": {1}}, 2),
    )
    found = backend.get("t")
    assert unpack(found.payload) == {"a": {1}}
    assert found.done == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_tables_of_an_older_celery_are_completed(file, open_again):
    change(
        file,
        """CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status VARCHAR(50),
           result BLOB, date_done DATETIME, traceback TEXT)""",
    )
    change(
        file,
        f"INSERT INTO {COLUMNS} VALUES ('old', 'SUCCESS', '7', '2024-01-02 03:04:05')",
    )
    backend = open_again()
    assert (backend.get("old").payload, backend.get("old").call) == (7, None)
    backend.settle("new", done(8))
    backend.flush(60)
    assert open_again().get("new").call.task == "t"


def test_without_extended_results_names_and_arguments_are_not_kept(file, open_again):
    backend = open_again(extended=False)
    backend.settle("t", done(8))
    backend.flush(60)
    assert list(rows(file)[0]) == ["id", "task_id", "status", "result", "date_done", "traceback", "children"]
    assert open_again(extended=False).get("t").payload == 8


# -- databases in a bad way --------------------------------------------------------------------------------------------


def test_while_the_database_is_locked_results_are_read_from_memory_and_written_later(file, caplog, monkeypatch):
    monkeypatch.setattr("nbcanvas.backend.database.tables._BUSY", 50)
    monkeypatch.setattr("nbcanvas.backend.database.writer._PATIENCE", 0.0)
    backend = DatabaseBackend(f"sqlite:///{file}")
    told = threading.Event()
    backend.watch(["t"], lambda task_id, record: told.set())
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        record = done(5)
        backend.settle("t", record)
        backend.announce("t", record)
        assert backend.get("t").payload == 5
        assert told.wait(60)  # rather late than never
        assert not backend.flush(0.01)
        holder.execute("ROLLBACK")
    assert backend.flush(60)
    backend.close()
    assert [row["task_id"] for row in rows(file)] == ["t"]
    said = caplog.text
    assert "database is locked" in said and "are not kept" in said and "works again" in said


def test_no_thread_outlives_what_was_closed(file):
    before = set(threading.enumerate())
    backend = DatabaseBackend(f"sqlite:///{file}", shared=True)
    backend.settle("t", done(1))
    backend.watch(["elsewhere"], lambda *_: None)
    assert len(set(threading.enumerate()) - before) == 2
    backend.close()
    until(lambda: set(threading.enumerate()) <= before)
    backend.settle("u", done(2))  # who goes on with it finds it as it was
    assert backend.flush(60)
    assert {row["task_id"] for row in rows(file)} == {"t", "u"}
    backend.close()


def test_what_is_said_once_of_a_run_is_repeated_with_its_transaction(database):
    first = StoredRun("a", "name", 1.0, None, 2.0, "host:1", 1, b"plan", b"state")
    go, once, tried = threading.Event(), [{"state": b"ended"}], []

    def wait():
        go.wait(60)
        return first

    def fails_once():
        tried.append(1)
        if len(tried) == 1:
            raise OSError("the connection broke")
        return first._replace(id="b")

    database.runs.put("a", wait)  # what comes behind it is one transaction
    database.runs.update("a", lambda: {"seen": 3.0, **(once.pop() if once else {})})
    database.runs.put("b", fails_once)
    go.set()
    assert database.flush(60)
    assert len(tried) == 2
    assert database.runs.look("a") == first._replace(seen=3.0, state=b"ended")


def test_who_waits_is_told_when_it_is_written_and_not_before(file, database):
    watched = []
    database.watch(["t"], lambda task_id, record: watched.append(rows(file, "task_id")))
    record = done(1)
    database.settle("t", record)
    database.announce("t", record)
    database.flush(60)
    assert watched == [[{"task_id": "t"}]]


@pytest.mark.parametrize("together", [False, True])
def test_who_asks_for_what_has_ended_already_has_it_when_it_is_written(file, together):
    """Or what another process is told to read may not be there yet."""
    with (
        App("late", backend=f"db+sqlite:///{file}", set_as_current=False) as app,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as holder,
    ):
        task = app.task(name="one")(lambda: 1)
        holder.execute("BEGIN IMMEDIATE")
        result = group(task.s(), task.s()).delay() if together else task.delay()
        until(result.ready)
        assert result.get(timeout=0) == ([1, 1] if together else 1)  # who does not wait has it from memory
        release = threading.Timer(0.2, holder.execute, ["ROLLBACK"])
        release.start()
        result.get(timeout=60)
        assert len(rows(file)) == 1 + together
        release.join()


def test_one_result_that_no_database_takes_does_not_hold_up_the_others(database, file, caplog, monkeypatch):
    make = database._rows.row

    def row(task_id, record):
        made = make(task_id, record)
        return {**made, "retries": object()} if task_id == "odd" else made

    monkeypatch.setattr(database._rows, "row", row)
    for one in ("a", "odd", "b"):
        database.settle(one, done(one))
    assert database.flush(60)
    assert sorted(row["task_id"] for row in rows(file)) == ["a", "b"]
    assert "odd is not kept" in caplog.text
    assert unpack(database.get("odd").payload) == "odd"


BAD_PLACES = {
    "no folder": (lambda at: at / "nowhere" / "results.sqlite", "there is no folder .*nowhere: make it first"),
    "a folder": (lambda at: at, "that is a folder"),
    "no database": (lambda at: (at / "notes.txt").write_text("x" * 5000) and at / "notes.txt", "is no SQLite database"),
}


@pytest.mark.parametrize("what", BAD_PLACES)
def test_a_place_where_no_database_can_be_is_refused_at_once(tmp_path, what):
    place, says = BAD_PLACES[what]
    with pytest.raises(ImproperlyConfigured, match=says):
        App("x", backend=f"db+sqlite:///{place(tmp_path)}", set_as_current=False)


def test_a_file_that_may_not_be_written_is_refused(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(ImproperlyConfigured, match="may not be written to"):
        App("x", backend=f"db+sqlite:///file:{file}?mode=ro&uri=true", set_as_current=False)


def test_tables_that_vanish_are_made_again(database, file):
    change(file, "DROP TABLE celery_taskmeta")
    database.settle("t", done(1))
    assert database.flush(60)
    assert len(rows(file)) == 1


def test_a_database_that_is_locked_says_so(file, monkeypatch):
    monkeypatch.setattr("nbcanvas.backend.database.tables._BUSY", 10)
    monkeypatch.setattr("nbcanvas.backend.database.tables._ATTEMPTS", 2)
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ImproperlyConfigured, match="another process has held it locked"):
            DatabaseBackend(f"sqlite:///{file}")


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"result_backend": "db+sqlite:///r.sqlite"},
        {"result_backend": "database+sqlite:///r.sqlite"},
        {"result_backend": "sqlite:///r.sqlite"},
        {"result_backend": "db", "database_url": "sqlite:///r.sqlite"},
        {"result_backend": "database", "database_url": "db+sqlite:///r.sqlite"},
    ],
    ids=str,
)
def test_celerys_ways_to_name_a_database(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    with App("x", set_as_current=False, **settings) as app:
        monkeypatch.chdir("/")  # a relative path is relative to where the setting was made
        app.backend.settle("t", done(1))
        assert app.backend.flush(60)
        assert len(rows(tmp_path / "r.sqlite")) == 1
        assert str(tmp_path / "r.sqlite") in repr(app.backend)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("db+sqlite://", "names no file"),
        ("db+sqlite:///:memory:", "names no file"),
        ("db", "needs database_url"),
        ("db+nosuchdb://user:secret@host/x", "nosuchdb"),
        ("db+postgresql://user:secret@localhost:1/x", "postgresql"),
        ("db+postgresql://localhost:1/x?user=me&password=secret", "postgresql"),
        ("db+sqlite+nodriver:///x.sqlite", "nodriver"),
    ],
)
def test_what_cannot_be_is_refused_without_a_password(url, says):
    with pytest.raises(ImproperlyConfigured, match=says) as refused:
        App("x", backend=url, set_as_current=False)
    assert "secret" not in str(refused.value)
    app = App("x", set_as_current=False)
    with pytest.raises(ImproperlyConfigured):
        app.conf.result_backend = url
    assert app.conf.result_backend is None


def test_without_sqlalchemy_the_way_out_is_named(tmp_path):
    program = f"""
import sys
sys.modules["sqlalchemy"] = None
import nbcanvas
try:
    nbcanvas.App("x", backend="db+sqlite:///{tmp_path}/r.sqlite")
except nbcanvas.errors.ImproperlyConfigured as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "a database as result_backend needs SQLAlchemy: pip install sqlalchemy\n"


def test_celerys_settings_of_the_database(file):
    seen = []
    with App(
        "x",
        backend=f"db+sqlite:///{file}",
        set_as_current=False,
        database_table_names={"task": "my_tasks", "group": "my_groups"},
        database_engine_options={"echo": False},
        database_short_lived_sessions=True,
        database_engine_callback=seen.append,
    ) as app:
        app.backend.save_group("g", (("g", None), []))
        app.backend.settle("t", done(1))
        app.backend.flush(60)
    assert [type(one) for one in seen] == [sa.Engine]
    assert isinstance(seen[0].pool, sa.pool.NullPool)
    assert len(rows(file, table="my_tasks")) == len(rows(file, table="my_groups")) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("database_table_names", {"tasks": "x"}),
        ("database_table_names", "x"),
        ("database_engine_options", {"nonsense": 1}),
        ("database_engine_callback", "no.such:thing"),
        ("database_engine_callback", 5),
        ("result_serializer", "nonsense"),
        ("result_accept_content", ["yaml"]),
    ],
)
def test_a_setting_that_cannot_be_is_named(file, setting, value):
    with pytest.raises(ImproperlyConfigured, match=setting.removeprefix("database_engine_options") or "nonsense"):
        App("x", backend=f"db+sqlite:///{file}", set_as_current=False, **{setting: value})


def test_the_backend_may_change_while_tasks_run(file):
    gate = threading.Event()
    with App("x", set_as_current=False) as app:

        @app.task(name="held")
        def held(x):
            assert gate.wait(60)
            return x

        before = held.delay(1)
        app.conf.result_backend = f"db+sqlite:///{file}"
        after = held.delay(2)
        gate.set()
        assert (before.get(timeout=60), after.get(timeout=60)) == (1, 2)
        app.conf.result_backend = None
        assert (before.get(timeout=60), after.get(timeout=60)) == (1, 2)


# -- whole canvases ----------------------------------------------------------------------------------------------------


@pytest.fixture
def app(file):
    with App("x", backend=f"db+sqlite:///{file}", set_as_current=False) as app:
        app.task(name="add")(lambda x, y: x + y)
        app.task(name="tsum")(sum)
        app.task(name="boom")(lambda *args: 1 / 0)
        yield app


def s(app, name, *args):
    return app.signature(name, args)


def test_canvases_run_and_are_there_for_the_next_kernel(app, open_again):
    canvas = chain(group(*(s(app, "add", i, i) for i in range(40)), app=app), s(app, "tsum"), s(app, "add", 1), app=app)
    result = canvas.apply_async()
    assert result.get(timeout=60) == 1561
    failing = chain(group(s(app, "boom"), s(app, "add", 1, 1), app=app), s(app, "tsum"), app=app).apply_async()
    with pytest.raises(ChordError, match="ZeroDivisionError"):
        failing.get(timeout=60)
    other = open_again()
    assert unpack(other.get(result.id).payload) == 1561
    assert type(other.get(failing.id).exc) is ChordError
    assert [
        one.state for one in other.results([Call(r.id, "add", ()) for r in result.parent.parent.results]).values()
    ] == ["SUCCESS"] * 40


def test_celerys_cleanup_task_drops_what_has_expired(app, file):
    app.conf.result_expires = timedelta(hours=1)
    for task_id, age in (("old", 7200), ("new", 60)):
        record = done(1)
        record.done -= age
        app.backend.settle(task_id, record)
    app.backend.flush(60)
    change(file, "INSERT INTO nbcanvas_run (id, seen) VALUES ('old', 1.0)")
    app.send_task("celery.backend_cleanup").get(timeout=60)
    assert {row["task_id"] for row in rows(file)} & {"old", "new"} == {"new"}
    assert rows(file, "id", "nbcanvas_run") == []
