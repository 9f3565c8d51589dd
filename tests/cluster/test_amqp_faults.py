"""Our workers on RabbitMQ when something dies: nothing is lost, nothing hangs, and what began early ends loudly."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcanvas import chain, chord, group
from nbcanvas.errors import ChordError, WorkerLostError
from nbcanvas.plan.graph import calls_of
from nbcanvas.protocol.payload import unpack_args
from tests.cluster.fleet import Fleet
from tests.cluster.proxy import Proxy
from tests.cluster.scene import EARLY, LATE, Scene
from tests.servers import RabbitMQ, Redis, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
TASKS = "tests.cluster.amqp_tasks"
#: What a worker with two slots may have begun, and not written down: what it takes at a time, and what runs.
HELD = 4 * 2 + 2


@pytest.fixture
def fleet(rabbitmq_server: RabbitMQ, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Workers on a queue of this test's own."""
    queue = f"faults_{request.node.name}"
    with Fleet(rabbitmq_server.url, redis_url, TASKS, task_default_queue=queue) as one:
        yield one


def notes(folder: Path) -> dict[int, list[str]]:
    """Return who began each task."""
    return {int(path.name): path.read_text().split("\n")[:-1] for path in folder.iterdir()}


def test_a_killed_worker_loses_nothing_with_late_acknowledgement(fleet: Fleet, tmp_path: Path) -> None:
    doomed, _ = fleet.ours(), fleet.ours()
    noted = fleet.client().tasks["noted"]
    result = group(noted.s(str(tmp_path), number, 0.1) for number in range(40)).apply_async()
    until(lambda: any("ours0" in who for began in notes(tmp_path).values() for who in began))
    ended = {number for number, one in enumerate(result.results) if one.ready()}
    doomed.kill()
    assert result.get(timeout=60) == list(range(40))  # long before AMQP's heartbeats would tell (two minutes)
    again = {number for number, began in notes(tmp_path).items() if len(began) > 1}
    assert not again & ended, "what had ended ran a second time"
    assert len(again) <= HELD, "more ran twice than the dead worker had in hand"


def test_what_a_killed_worker_had_begun_ends_loudly_with_early_acknowledgement(fleet: Fleet, tmp_path: Path) -> None:
    doomed = fleet.ours()
    once = fleet.client().tasks["once"]
    result = group(once.s(str(tmp_path), number, 60 if number < 2 else 0) for number in range(8)).apply_async()
    until(lambda: len(notes(tmp_path)) == 2)
    doomed.kill()
    fleet.ours()
    assert [one.get(timeout=60) for one in result.results[2:]] == list(range(2, 8))
    for one in result.results[:2]:
        with pytest.raises(WorkerLostError):
            one.get(timeout=60)
    assert all(len(began) == 1 for began in notes(tmp_path).values())


@pytest.mark.parametrize("task", ["noted", "once"])
def test_a_restarted_rabbitmq_loses_nothing(fleet: Fleet, rabbitmq_server: RabbitMQ, tmp_path: Path, task: str) -> None:
    fleet.ours(), fleet.ours()
    work = fleet.client().tasks[task]
    result = group(work.s(str(tmp_path), number, 0.2) for number in range(60)).apply_async()
    until(lambda: len(notes(tmp_path)) > 6)
    rabbitmq_server.stop()
    time.sleep(1)
    rabbitmq_server.start()
    assert result.get(timeout=120) == list(range(60))
    assert all(len(began) == 1 for began in notes(tmp_path).values()), "work that went on was begun again"


def test_a_cut_connection_loses_nothing(rabbitmq_server: RabbitMQ, redis_url: str, tmp_path: Path) -> None:
    with Proxy(rabbitmq_server.port) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
        with Fleet(url, redis_url, TASKS, task_default_queue="faults_cut") as fleet:
            fleet.ours()
            noted = fleet.client().tasks["noted"]
            result = group(noted.s(str(tmp_path), number, 0.1) for number in range(30)).apply_async()
            until(lambda: len(notes(tmp_path)) > 3)
            for _ in range(2):
                proxy.cut()
                time.sleep(0.5)
                proxy.mend()
                time.sleep(0.5)
            assert result.get(timeout=60) == list(range(30))
            assert all(len(began) == 1 for began in notes(tmp_path).values())


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Iterator[Redis]:
    """A Redis for results that keeps everything when it is stopped, and may be stopped."""
    server = Redis(tmp_path_factory.mktemp("results"), persistent=True)
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("dies", "sig", "conf"),
    [
        ("worker", signal.SIGKILL, EARLY),
        ("worker", signal.SIGKILL, LATE),
        ("rabbitmq", signal.SIGTERM, EARLY),
        ("rabbitmq", signal.SIGKILL, LATE),
        ("redis", signal.SIGTERM, EARLY),
        ("redis", signal.SIGKILL, LATE),
    ],
)
def test_a_chord_in_a_chord_outlives(
    rabbitmq_server: RabbitMQ, results: Redis, tmp_path: Path, dies: str, sig: int, conf: dict
) -> None:
    """Two servers, no transaction over both: nothing is lost, and each body runs once."""
    queue = f"outlives_{dies}_{sig}_{len(conf)}"
    scene = Scene(rabbitmq_server.url, tmp_path, results.url, task_default_queue=queue, **conf)
    try:
        workers = [scene.fleet.ours() for _ in range(2)]
        # Three hold, so that each of the two workers, with two slots, has at least one of these in hand.
        holds = [scene.sig("hold", f"hold{number}", scene.path) for number in range(3)]
        steps = [scene.sig("step", number, scene.path, 0.03) for number in range(60)]
        inner = chord([*holds, *steps[:20]], scene.body("inner"))
        end = scene.sig("after", "end", scene.path)
        run = scene.submit(chain(chord([inner, *steps[20:]], scene.body()), end))
        until(lambda: sum(word.startswith("hold") for word in scene.ran()) == 3)
        scene.wait_ran(15)
        ended = _ended(run)
        if dies == "worker":
            workers[0].kill()
        else:
            server = rabbitmq_server if dies == "rabbitmq" else results
            server.stop(sig)
            server.start()
        scene.go()
        if dies == "worker" and not conf:  # what it had begun ends loudly, and so does what waited for it
            with pytest.raises((WorkerLostError, ChordError)):
                run.get(timeout=120)
            assert all(times == 1 for times in scene.ran().values())
            return
        assert run.get(timeout=120) == "end"
        ran = scene.ran()
        assert set(ran) == {*map(str, range(60)), "hold0", "hold1", "hold2", "inner", "body", "end"}
        assert [ran[word] for word in ("inner", "body", "end")] == [1, 1, 1]
        again = {word for word, times in ran.items() if times > 1}
        assert max(ran.values()) <= 2
        assert not again & ended, "what had ended ran a second time"
        assert len(again) <= (HELD if dies == "worker" else 0), f"more ran twice than what was lost: {again}"
    finally:
        scene.close()


def _ended(run) -> set[str]:
    """Return by their words which tasks have ended, so far as the client has heard."""
    state = run.snapshot()
    calls = [call for call in calls_of(run.root) if call.task in {"step", "hold"}]
    ended = [call for call in calls if state.state(state.index_of(call.id)) == "SUCCESS"]
    return {str(unpack_args(call.payload)[0][0]) for call in ended}
