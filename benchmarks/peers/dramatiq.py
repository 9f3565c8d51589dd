"""dramatiq's stub broker, with a worker in this process."""

from __future__ import annotations

from functools import cache

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from benchmarks import work
from benchmarks.meters import Once, serve
from benchmarks.peers import THREADS

broker = StubBroker()
broker.add_middleware(Results(backend=StubBackend()))
dramatiq.set_broker(broker)
add = dramatiq.actor(store_results=True)(work.add)


@cache
def _worker() -> dramatiq.Worker:
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=10)
    worker.start()
    return worker


def group(size: int) -> Once:
    worker = _worker()

    def once() -> None:
        running = dramatiq.group(add.message(i, i) for i in range(size)).run()
        broker.join(add.queue_name)  # its results are polled for, ever more slowly: only once all are there
        worker.join()
        assert list(running.get_results()) == [i + i for i in range(size)]

    return once


if __name__ == "__main__":
    serve("dramatiq", f"StubBroker, StubBackend, a Worker with {THREADS} threads here, JSON", {"group": group})
