"""Plans by reference, and a Celery worker that joins: what it hands on comes to a worker of ours."""

from __future__ import annotations

import pytest
import redis

from nbcanvas import chord, group
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from tests.cluster.fleet import Fleet

pytestmark = pytest.mark.servers


@pytest.fixture
def app(redis_url):
    """A client that believes that all workers are ours, where Celery's takes from the default queue and ours not."""
    with Fleet(redis_url) as fleet:
        fleet.celery("threads", 2, wait=False)
        fleet.ours("threads", 2, queues="elsewhere", wait=False)
        for worker in fleet.workers:
            worker.await_ready()
        client = fleet.client()
        client.fleet.all_ours = lambda: True
        yield client


def test_a_celery_worker_takes_a_message_by_reference(app, redis_url):
    add, tsum = app.tasks["add"], app.tasks["tsum"]
    steps = add.s(1, 1)
    for _ in range(5):
        steps |= add.s(1)
    assert steps.delay().get(timeout=60) == 7
    with redis.Redis.from_url(redis_url) as store:
        assert list(store.scan_iter("nbcanvas-plan-*")), "it was not by reference"

    body = tsum.s() | add.s(1) | add.s(1).set(queue="elsewhere") | add.s(1)
    assert chord(group(add.s(n, n) for n in range(4)), body).delay().get(timeout=60) == 15
    assert not app.broker.depth().get(CONTINUE_QUEUE)
