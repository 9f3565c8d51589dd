"""huey's Redis queue, two consumers of one thread."""

from __future__ import annotations

from huey import RedisHuey

from benchmarks import work
from benchmarks.meters import Once, serve
from benchmarks.peers.huey import Adapter

from . import WORKERS
from .server import URL, client
from .workers import Workers

#: Results are polled for.
POLL = 0.0002


def _start() -> Workers:
    command = ("huey_consumer", "benchmarks.cluster.huey.app", "-w", "1", "-n", "-q")
    return Workers([command] * WORKERS, lambda: here.values([pid() for _ in range(20)]))


def submit(size: int) -> tuple[Once, Once]:
    return lambda: [here.add(i, i) for i in range(size)], client().flushall


app = RedisHuey("bench", url=URL)
here = Adapter(app, _start, POLL)
pid = app.task()(work.pid)

if __name__ == "__main__":
    serve(
        "huey",
        f"RedisHuey, {WORKERS} consumers of one thread, pickled, results polled every {POLL * 1e3} ms",
        {
            "cluster-group": here.group,
            "cluster-small": here.group,
            "cluster-submit": submit,
            "cluster-roundtrip": here.roundtrip,
            "cluster-chain": here.chain,
            "cluster-chord": here.chord,
        },
    )
