"""Tasks of the tests of our worker: they write down that they ran, sleep, fail, exceed, and kill."""

from __future__ import annotations

import os
import signal
import time


def define(app):
    import redis

    store = redis.Redis.from_url(str(app.conf.result_backend))

    def note(key):
        store.rpush(f"ran:{key}", os.getpid())

    @app.task(name="mark")
    def mark(key, seconds=0.0):
        note(key)
        time.sleep(seconds)
        return key

    @app.task(name="late", acks_late=True)
    def late(key, seconds=0.0):
        note(key)
        time.sleep(seconds)
        return key

    @app.task(name="hold")
    def hold(key):
        """Run until the test puts something into the list ``go:<key>``; two minutes at most."""
        note(key)
        for _ in range(120):
            if store.blpop([f"go:{key}"], 1):
                break
        return key

    @app.task(name="late_hold", acks_late=True)
    def late_hold(key):
        return hold(key)

    @app.task(name="total")
    def total(values):
        return len(values)

    @app.task(name="boom")
    def boom(text="boom"):
        raise ValueError(text)

    @app.task(name="hear")
    def hear(task_id):
        note(task_id)

    @app.task(name="kill_worker", acks_late=True)
    def kill_worker(key):
        note(key)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    @app.task(name="kill_child", acks_late=True, reject_on_worker_lost=True)
    def kill_child(key):
        if not store.rpush(f"ran:{key}", os.getpid()) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return key

    @app.task(name="overtime", soft_time_limit=1)
    def overtime():
        from nbcanvas.errors import SoftTimeLimitExceeded

        try:
            while True:
                time.sleep(0.01)
        except SoftTimeLimitExceeded:
            return "softly"

    @app.task(name="asks", bind=True)
    def asks(self):
        request = self.request
        names = "correlation_id", "reply_to", "argsrepr", "time_limit", "callbacks", "chain", "loglevel", "tenant"
        return {name: request.get(name) for name in names}

    @app.task(name="placed", bind=True)
    def placed(self, *_):
        app.send_task("mark", ("child",))
        return [self.request.group, self.request.group_index, len(self.request.children)]

    @app.task(name="rejects")
    def rejects():
        from nbcanvas.errors import Reject

        raise Reject("no use")

    @app.task(name="again", max_retries=2)
    def again():
        from nbcanvas.errors import Retry

        raise Retry("by hand", when=0)

    @app.task(name="quiet", ignore_result=True)
    def quiet(value):
        return value

    @app.task(name="ends_itself", bind=True)
    def ends_itself(self):
        from nbcanvas.errors import Ignore

        self.update_state(state="FAILURE", meta={"exc_type": "ValueError", "exc_message": ["by itself"]})
        raise Ignore

    @app.task(name="stuck", time_limit=0.4)
    def stuck():
        while True:
            time.sleep(0.01)

    @app.task(name="unsendable")
    def unsendable():
        return object()

    @app.task(name="about", bind=True)
    def about(self):
        request = self.request
        return [request.hostname, request.delivery_info["routing_key"], request.delivery_info["redelivered"]]

    @app.task(name="flaky", bind=True, max_retries=5)
    def flaky(self, times):
        if self.request.retries < times:
            raise self.retry(countdown=0)
        return [self.request.retries, self.request.delivery_info["routing_key"]]

    @app.task(name="forget", ignore_result=True)
    def forget(key):
        note(key)

    @app.task(name="submits")
    def submits():
        return app.tasks["mark"].delay("from a task").id

    @app.task(name="pid")
    def pid():
        return os.getpid()

    @app.task(name="careless", acks_late=True, acks_on_failure_or_timeout=False)
    def careless():
        raise ValueError("not acknowledged")
