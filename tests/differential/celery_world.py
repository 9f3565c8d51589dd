"""The tasks of the differential test, for real Celery: what they do is symbolic, and they write it down in Redis."""

from __future__ import annotations

import json
import os

import celery
import redis

from tests.plan.reference import item_value, symbol

URL = os.environ["DIFFERENTIAL_REDIS"]
app = celery.Celery("differential", broker=URL, backend=URL)
app.conf.update(
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    result_expires=600,
    task_default_retry_delay=0,
)
store = redis.Redis.from_url(URL)


class Boom(Exception):
    """What failing tasks raise."""


def note(kind, *what):
    store.rpush("notes", json.dumps([kind, *what]))


@app.task(name="work", bind=True, shared=False)
def work(self, *args, tag, do, more=None):
    what, *details = do
    note("run", tag, symbol(tag, args, more))
    if what == "retry":
        again, what = details
        if self.request.retries < again:
            raise self.retry(countdown=0)
    if what == "fail":
        raise Boom(tag)
    if what == "replace":
        return self.replace(app.signature(details[0]))
    return symbol(tag, args, more)


@app.task(name="heard", shared=False)
def heard(request, exc, traceback, tag):
    note("heard", tag, type(exc).__name__)


@app.task(name="item", shared=False)
def item(*parts):
    if any("boom" in str(part) for part in parts):
        raise Boom("item")
    return item_value(*parts)
