"""Flower on our workers: its API as programs use it, its pages as people do; a worker of Celery's stands beside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.browser.lab import chromium
from tests.cluster.fleet import Fleet
from tests.servers import Redis, free_port, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

TASKS = "tests.cluster.remote_tasks"
THEIRS, OURS = "celery@here", "ours@here"
ROOT = Path(__file__).parents[2]
#: What Flower asks a worker for.
TOLD = {"stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf"}


class Flower:
    """A Flower of one's own."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "flower.log"
        command = [sys.executable, "-m", "celery", "-A", "tests.cluster.flower_app", "flower"]
        command += [f"--port={self.port}", "--address=127.0.0.1", "--inspect_timeout=5000"]
        env = {**fleet.environment(), "FLOWER_UNAUTHENTICATED_API": "true", "HOME": os.fspath(folder)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        until(self.answers, what="Flower answers")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=5):
                return True
        except OSError:
            return False

    def get(self, path: str):
        with urllib.request.urlopen(f"{self.url}/api/{path}", timeout=90) as answer:
            return json.load(answer)

    def worker(self, name: str):
        """Return what a worker says when it is asked now; nothing when it has not."""
        try:
            return self.get(f"workers?refresh=1&workername={name}")[name]
        except urllib.error.HTTPError:  # no such worker, yet
            return {}

    def post(self, path: str, body=None, **fields):
        """Return the status and what was said."""
        data = (urllib.parse.urlencode(fields) if body is None else json.dumps(body)).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/{path}", data=data, timeout=90) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fleet(server):
    with Fleet(server.url, tasks=TASKS) as fleet:
        fleet.celery("prefork", 2, name=THEIRS, events=True, wait=False)
        fleet.ours("threads", 2, name=OURS, arguments=["-E"], wait=False)
        for worker in fleet.workers:
            worker.await_ready()
        yield fleet


@pytest.fixture(scope="module")
def flower(fleet, tmp_path_factory):
    flower = Flower(fleet, tmp_path_factory.mktemp("flower"))
    for name in (THEIRS, OURS):
        until(lambda name=name: set(flower.worker(name)) >= TOLD, what=f"Flower knows {name}")
    until(lambda: flower.get("workers?status=1") == {THEIRS: True, OURS: True}, what="both are online")
    yield flower
    flower.stop()


@pytest.fixture(scope="module", autouse=True)
def queues_of_their_own(flower):
    for worker in (THEIRS, OURS):
        status, said = flower.post(f"worker/queue/add-consumer/{worker}", queue=worker.split("@")[0])
        assert status == 200, said


# -- its API ----------------------------------------------------------------------------------------------------------


def test_both_kinds_of_worker_look_the_same(flower):
    theirs, ours = flower.worker(THEIRS), flower.worker(OURS)
    assert set(theirs) <= set(ours)
    assert ours["registered"] == theirs["registered"]
    assert {queue["name"] for queue in ours["active_queues"]} == {"celery", "ours"}
    assert set(theirs["stats"]) <= set(ours["stats"])
    assert ours["active"] == ours["scheduled"] == ours["reserved"] == []


@pytest.mark.parametrize("worker", [OURS])
def test_the_pool_grows_and_shrinks(flower, worker):
    def size():
        return flower.worker(worker)["stats"]["pool"]["max-concurrency"]

    assert flower.post(f"worker/pool/grow/{worker}", n=2) == (
        200,
        {"message": f"Growing '{worker}' worker's pool by 2"},
    )
    until(lambda: size() == 4)
    assert flower.post(f"worker/pool/shrink/{worker}", n=2)[0] == 200
    until(lambda: size() == 2)
    assert flower.post(f"worker/pool/autoscale/{worker}", min=1, max=3)[0] == 403
    assert flower.post(f"worker/pool/restart/{worker}")[0] == 403
    assert flower.post("worker/pool/grow/nobody@here", n=2)[0] == 404


@pytest.mark.parametrize("worker", [THEIRS, OURS])
def test_queues_and_limits_are_changed(flower, worker):
    for path, fields, says in (
        (f"worker/queue/add-consumer/{worker}", {"queue": "more"}, "add consumer more"),
        (f"worker/queue/cancel-consumer/{worker}", {"queue": "more"}, "no longer consuming from more"),
        ("task/rate-limit/add", {"workername": worker, "ratelimit": "200/s"}, "new rate limit set successfully"),
        ("task/timeout/add", {"workername": worker, "soft": 30, "hard": 60}, "time limits set successfully"),
    ):
        assert flower.post(path, **fields) == (200, {"message": says})


@pytest.mark.parametrize("worker", [THEIRS, OURS])
def test_tasks_are_sent_and_followed(flower, worker):
    queue = worker.split("@")[0]
    status, done = flower.post("task/apply/add", {"args": [1, 2], "queue": queue})
    assert (status, done["state"], done["result"]) == (200, "SUCCESS", 3)
    _, failed = flower.post("task/async-apply/fail", {"args": ["boom"], "queue": queue})
    _, sent = flower.post("task/send-task/add", {"args": [3, 4], "queue": queue})

    def info(task):
        try:
            return flower.get(f"task/info/{task['task-id']}")
        except urllib.error.HTTPError:  # it has heard of no such task, yet
            return {}

    until(lambda: info(sent).get("state") == "SUCCESS")
    until(lambda: info(failed).get("state") == "FAILURE")
    told = info(sent)
    assert (told["name"], told["args"], told["result"], told["worker"]) == ("add", "[3, 4]", "7", worker) or (
        told["args"] == "(3, 4)"
    )
    assert told["received"] <= told["started"] <= told["succeeded"]
    assert "boom" in info(failed)["exception"]
    assert "ValueError" in info(failed)["traceback"]
    assert flower.get(f"task/result/{sent['task-id']}")["result"] == 7
    assert sent["task-id"] in flower.get(f"tasks?workername={worker}")


@pytest.mark.parametrize("worker", [THEIRS, OURS])
def test_tasks_are_revoked(flower, worker):
    queue = worker.split("@")[0]
    _, running = flower.post("task/async-apply/wait", {"args": [300], "queue": queue})
    _, waiting = flower.post("task/async-apply/add", {"args": [1, 2], "queue": queue, "countdown": 300})

    def state(task):
        try:
            return flower.get(f"task/info/{task['task-id']}")["state"]
        except urllib.error.HTTPError:
            return None

    until(lambda: state(running) == "STARTED")
    until(lambda: state(waiting) == "RECEIVED")
    assert flower.post(f"task/revoke/{waiting['task-id']}")[0] == 200
    assert flower.post(f"task/revoke/{running['task-id']}", terminate="true", signal="SIGKILL")[0] == 200
    until(lambda: state(running) == "REVOKED")
    until(lambda: flower.get(f"task/result/{waiting['task-id']}")["state"] == "REVOKED")


def test_a_worker_is_shut_down(fleet, flower):
    guest = fleet.ours("threads", 1, name="guest@here", arguments=["-E"])
    until(lambda: flower.worker("guest@here"))
    assert flower.post("worker/shutdown/guest@here") == (200, {"message": "Shutting down!"})
    until(lambda: not guest.alive)
    until(lambda: flower.get("workers?status=1").get("guest@here") is False)


# -- its pages --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chrome(flower, driver):
    browser = driver.chromium.launch(
        executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"], timeout=120_000
    )
    yield browser
    browser.close()


@pytest.fixture
def page(chrome):
    errors = []
    page = chrome.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - playwright marks what it is given
    yield page
    page.close()
    assert not errors


@pytest.mark.browser
def test_the_page_of_workers_shows_ours(flower, page):
    page.goto(f"{flower.url}/workers")
    row = page.locator("#workers-table tbody tr", has_text=OURS)
    row.wait_for()
    page.wait_for_function("document.getElementById('workers-online').textContent.trim() === '2'")
    cells = row.locator("td").all_inner_texts()
    assert cells[1].strip() == "Online"


@pytest.mark.browser
def test_the_page_of_a_worker_controls_ours(flower, page):
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{flower.url}/worker/{OURS}")
    assert page.locator("#workername").inner_text() == OURS
    pool = page.locator("#tab-pool")
    assert "Threads" in pool.inner_text()

    page.locator("#pool-size").fill("3")
    page.locator("#worker-pool-grow").click()
    page.get_by_text(f"Growing '{OURS}' worker's pool by 3").wait_for()
    page.locator("#pool-size").fill("3")
    page.locator("#worker-pool-shrink").click()
    page.get_by_text(f"Shrinking '{OURS}' worker's pool by 3").wait_for()

    page.locator("#worker-tab-queues").click()
    assert page.locator("#worker-queues tr", has_text="celery").count() == 1
    page.locator("#add-consumer-name").fill("from-the-page")
    page.locator("#worker-add-consumer").click()
    page.get_by_text("add consumer from-the-page").wait_for()
    until(lambda: "from-the-page" in str(flower.worker(OURS)["active_queues"]))
    page.reload()
    page.locator("#worker-tab-queues").click()
    page.locator("[id='worker-cancel-consumer-from-the-page']").click()
    page.get_by_text("no longer consuming from from-the-page").wait_for()

    page.locator("#worker-tab-config").click()
    assert "redis://127.0.0.1:" in page.locator("#tab-config").inner_text()  # without a password, if it had one
    page.locator("#worker-tab-system").click()
    assert page.locator("#tab-system tr").count() > 10


@pytest.mark.browser
def test_the_pages_of_tasks_show_what_ours_did(flower, page):
    _, sent = flower.post("task/apply/add", {"args": [20, 22], "queue": "ours"})

    def heard():
        try:
            return flower.get(f"task/info/{sent['task-id']}")["state"] == "SUCCESS"
        except urllib.error.HTTPError:  # its events come after its result
            return False

    until(heard, 60)
    page.goto(f"{flower.url}/tasks")
    row = page.locator("#tasks-table tbody tr", has_text=sent["task-id"][:8]).first
    row.wait_for()
    page.goto(f"{flower.url}/task/{sent['task-id']}")
    text = page.locator("#task-page").inner_text()
    assert OURS in text
    assert "42" in text
