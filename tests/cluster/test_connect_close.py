"""A closed app leaves nothing behind: its runs have said their last word, its threads have ended."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import kombu
import pytest

from nbcanvas import App, attach, disconnect, group, submit
from nbcanvas.backend.port import Record
from nbcanvas.errors import NBCanvasError
from nbcanvas.run import Run
from tests.servers import Redis, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


def client(url):
    app = App("closing", broker=url, backend=url, set_as_current=False)

    @app.task(name="add")
    def add(x, y):
        return x + y

    return app, add


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("nbcanvas")}


def test_the_last_word_of_a_run_is_what_is_known_at_close(redis_url):
    before = threads()
    app, add = client(redis_url)
    run = submit(group(add.s(1, 1), add.s(2, 2)), app=app)
    elsewhere, _ = client(redis_url)
    for call in run.snapshot().tree.calls:
        elsewhere.backend.settle(call.id, Record("SUCCESS", payload=4))
    assert run.get(timeout=60) == [4, 4]
    app.close()
    stored = elsewhere.backend.runs.look(run.id)
    assert stored.finished == run.finished
    elsewhere.close()
    until(lambda: threads() <= before)


def test_who_has_a_value_knows_what_it_was_made_of(redis_url, monkeypatch):
    """Though another thread has only just begun to tell of it."""
    begun, hear = [], Run._ended

    def slowly(run, task_id, record):
        begun.append(task_id)
        time.sleep(0.2)
        hear(run, task_id, record)

    monkeypatch.setattr(Run, "_ended", slowly)
    app, add = client(redis_url)
    run = submit(group(add.s(1, 1), add.s(2, 2)), app=app)
    for call in run.snapshot().tree.calls:
        app.backend.settle(call.id, Record("SUCCESS", payload=4))
    until(lambda: len(begun) == 2)
    assert run.get(timeout=60) == [4, 4]
    assert (run.done, run.counts) == (True, {"SUCCESS": 2})
    app.close()


def test_who_waits_for_a_run_of_a_closed_app_is_told_and_may_follow_it_again(redis_url):
    app, add = client(redis_url)
    run = submit(group(add.s(1, 1), add.s(2, 2)), app=app)
    with ThreadPoolExecutor(2) as several:
        waiting = [several.submit(wait) for wait in (run.wait, run.get)]
        # Both tasks are heard of by the run, and by who waits for their values: `get` has begun.
        until(lambda: [isinstance(told, tuple) for told in app.backend._watched().values()] == [True, True])
        app.close()
        for one in waiting:
            with pytest.raises(NBCanvasError, match=f"closed before it ended.*attach.*{run.id[:8]}"):
                one.result(60)
    with pytest.raises(NBCanvasError, match="closed before it ended"):
        run.wait(60)
    again = attach(run.id, app=app)
    assert again is not run
    for call in run.snapshot().tree.calls:
        app.backend.settle(call.id, Record("SUCCESS", payload=4))
    assert again.wait(60).done
    assert again.get(timeout=60) == run.get(timeout=60) == [4, 4]
    app.close()


def test_no_thread_of_a_closed_app_waits_for_a_server_that_is_gone(tmp_path, caplog):
    before = threads()
    server = Redis(tmp_path)
    app, add = client(server.url)
    run = submit(group(add.s(1, 1), add.s(2, 2)), app=app)
    server.stop()
    until(lambda: "runs cannot be kept, and are written later" in caplog.text)
    app.close()
    until(lambda: threads() <= before)
    assert caplog.text.count("what is new of runs is not kept") == 1
    assert not run.done


def events_heard():
    return {thread for thread in threads() if thread.name == "nbcanvas-events"}


def test_nobody_hears_events_for_an_app_that_was_left(redis_url):
    before = events_heard()
    app, add = client(redis_url)
    run = submit(group(add.s(1, 1), add.s(2, 2)), app=app)
    (mine,) = events_heard() - before
    disconnect(app)
    app.follow()  # somebody else attaches to a run of that app
    assert events_heard() - before == {mine}
    disconnect(app)
    for call in run.snapshot().tree.calls:
        assert mine.is_alive()  # the run goes on there
        app.backend.settle(call.id, Record("SUCCESS", payload=4))
    assert run.get(timeout=60) == [4, 4]
    until(lambda: not mine.is_alive())
    submit(add.s(1, 1), app=app)
    assert len(events_heard() - before) == 1  # it can be used again
    app.close()
    until(lambda: events_heard() <= before)


def test_a_server_that_is_away_is_told_of_once_and_not_waited_for_without_a_run(tmp_path, caplog):
    server = Redis(tmp_path, persistent=True)
    try:
        before = events_heard()
        app, add = client(server.url)
        run = submit(add.s(1, 1), app=app)
        (mine,) = events_heard() - before
        server.stop()
        until(lambda: "no events are heard" in caplog.text)
        server.start()
        until(lambda: "no events are heard: that is over" in caplog.text)
        assert caplog.text.count("no events are heard: the broker") == 1
        app.backend.settle(run.id, Record("SUCCESS", payload=2))
        assert run.get(timeout=60) == 2
        server.stop()
        until(lambda: not mine.is_alive())
        assert caplog.text.count("no events are heard: the broker") == 1
        server.start()
        submit(add.s(1, 1), app=app)
        assert len(events_heard() - before) == 1
        app.close()
    finally:
        server.stop()


def test_a_closed_app_can_be_used_again(redis_url):
    app, add = client(redis_url)
    assert app.broker.depth() == {"celery": 0}
    app.close()
    sent = add.delay(1, 1)
    assert app.broker.depth() == {"celery": 1}
    elsewhere, _ = client(redis_url)
    elsewhere.backend.settle(sent.id, Record("SUCCESS", payload=2))
    assert sent.get(timeout=60) == 2
    app.close()
    elsewhere.close()


def assert_nothing_outlives(make, use):
    """An app that nobody has any more leaves no thread."""
    before = threads()
    app = make()
    use(app)
    assert threads() - before
    gone = weakref.ref(app)
    del app
    until(lambda: gc.collect() is not None and gone() is None)  # its threads look at it now and then
    until(lambda: threads() <= before)


def test_nobody_listens_for_an_app_that_nobody_has(redis_url):
    assert_nothing_outlives(lambda: client(redis_url)[0], lambda app: app.follow())


def test_nobody_reads_results_over_amqp_for_an_app_that_nobody_has(rabbitmq_url):
    assert_nothing_outlives(
        lambda: App("closing", broker=rabbitmq_url, set_as_current=False),
        lambda app: app.send_task("add", (1, 1)),
    )


def test_events_are_heard_as_soon_as_an_app_follows(redis_url, monkeypatch):
    monkeypatch.setattr("nbcanvas.app.connections._PATIENCE", 20.0)  # it waits no longer than half a second by itself
    app, _ = client(redis_url)
    feed = app.hub.open("mine")
    with kombu.Connection(redis_url) as connection:
        producer = kombu.Producer(connection.default_channel, kombu.Exchange("celeryev", "fanout"))
        event = {"type": "task-received", "uuid": "one", "root_id": "mine", "hostname": "w@h", "timestamp": 5.0}
        app.follow()
        producer.publish(event, routing_key="task.received", serializer="json")
    until(lambda: [told[1] for told in list(feed)] == ["one"])
    app.close()
