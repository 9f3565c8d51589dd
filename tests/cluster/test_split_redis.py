"""A Redis that is the broker, and results that are somewhere else: kombu's transport, and any backend."""

from collections.abc import Iterator

import pytest

from nbcanvas import chain, chord, group
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture
def fleet(redis_url: str, tmp_path) -> Iterator[Fleet]:
    results = f"db+sqlite:///{tmp_path}/results.sqlite"
    with Fleet(redis_url, results, "tests.cluster.amqp_tasks", result_chord_retry_interval=0.1) as one:
        yield one


def test_our_worker_and_celerys_share_the_work(fleet: Fleet):
    fleet.ours(), fleet.celery("threads")
    add, total, who, again = (fleet.client().tasks[name] for name in ("add", "total", "who", "again"))
    assert group(add.s(n, 1) for n in range(40)).apply_async().get(timeout=60) == list(range(1, 41))
    assert chain(add.s(1, 1), group(add.s(n) for n in range(3)), total.s(), add.s(1)).apply_async().get(60) == 10
    assert chord([again.s(n, 1) for n in range(4)], total.s()).apply_async().get(timeout=60) == 6
    seen = set()
    until(
        lambda: seen.update(group(who.s() for _ in range(60)).apply_async().get(timeout=60)) or len(seen) == 2,
        what="each of them does some of the work",
    )
    assert seen == {"ours0@here", "celery1@here"}


def test_what_was_taken_and_not_begun_is_given_back(fleet: Fleet, tmp_path):
    first = fleet.ours()
    noted = fleet.client().tasks["noted"]
    folder = tmp_path / "notes"
    folder.mkdir()
    result = group(noted.s(str(folder), number, 0.3) for number in range(12)).apply_async()
    assert result.results[0].get(timeout=60) == 0
    first.stop()
    fleet.ours()
    assert result.get(timeout=60) == list(range(12))
    assert all(len(path.read_text().splitlines()) == 1 for path in folder.iterdir())
