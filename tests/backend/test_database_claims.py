"""Claims in a database: of several processes that want to begin a task, one does."""

import threading

from nbcanvas import states
from nbcanvas.backend.database import DatabaseBackend
from nbcanvas.backend.port import Record
from nbcanvas.protocol.payload import Held, unpack


def claim(backend, task_ids, who, over=lambda _: False):
    found = backend.claim([(one, Record(states.STARTED, Held({"hostname": who})), over) for one in task_ids])
    return [None if record is None else (record.state, unpack(record.payload)) for record in found]


def test_of_several_who_claim_tasks_at_once_each_is_had_by_one(tmp_path):
    backends = [DatabaseBackend(f"sqlite:///{tmp_path}/results.sqlite", shared=True) for _ in range(3)]
    tasks = [f"task{number}" for number in range(30)]
    backends[0].update("task3", Record(states.RETRY, exc=ValueError("again")))  # a row there is already
    backends[0].flush()
    won: dict[str, list[int]] = {one: [] for one in tasks}

    def race(who: int) -> None:
        for start in range(0, len(tasks), 3):
            some = tasks[start : start + 3]
            for task_id, stands in zip(some, claim(backends[who], some, str(who)), strict=True):
                if stands is None:
                    won[task_id].append(who)
                else:
                    assert stands[0] == states.STARTED

    threads = [threading.Thread(target=race, args=(who,)) for who in range(len(backends))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert all(len(who) == 1 for who in won.values()), won
    for task_id, (who,) in won.items():
        assert unpack(backends[0].get_many([task_id])[task_id].payload) == {"hostname": str(who)}
    for one in backends:
        one.close()


def test_a_claim_gives_way_where_it_is_said_to_and_an_end_never_does(tmp_path):
    backend = DatabaseBackend(f"sqlite:///{tmp_path}/results.sqlite", shared=True)
    assert claim(backend, ["a", "b"], "one") == [None, None]
    assert claim(backend, ["a"], "one") == [None], "the answer to the first one may have been lost"
    assert claim(backend, ["a", "b"], "two") == [(states.STARTED, {"hostname": "one"})] * 2
    assert claim(backend, ["a"], "two", lambda record: unpack(record.payload)["hostname"] == "one") == [None]
    backend.settle("b", Record(states.SUCCESS, 7, done=1.0))
    backend.flush()
    assert claim(backend, ["a", "b"], "three", lambda _: True) == [None, (states.SUCCESS, 7)]
    backend.close()
