"""Runs of tasks that this process does not know, on Celery's workers, which tell only how tasks ended."""

import pytest

from nbcanvas import App, chord, errors, group, signature, submit
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300), pytest.mark.usefixtures("patient")]


def call(name, *args):
    return signature(name, args, immutable=True)


def test_tasks_that_only_celerys_workers_know(redis_url):
    with Fleet(redis_url, tasks="tests.cluster.unknown_tasks") as fleet, App("far", broker=redis_url) as app:
        fleet.celery(pool="threads")

        # What failed behind what went well did so by itself: nobody said that it began.
        chains = [call("add", 1, 1) | call("fails", 1), call("fails", 2), call("add", 1, 1) | call("add", 2, 2)]
        run = submit(chord(chains, signature("total")), app=app)
        with pytest.raises(errors.ChordError):
            run.get(timeout=60)
        run.wait(60)
        assert [(one.path, str(one.error)) for one in run.failed] == [
            ("chord.header[0].chain[1]", "no 1"),
            ("chord.header[1]", "no 2"),
        ]
        assert {one.path: one.kind for one in run.why()} == {
            "chord.header[0].chain[1]": "failed",
            "chord.header[1]": "failed",
            "chord.body": "skipped",
        }
        assert "chord.header[0].chain[1] failed (ValueError: no 1), and 1 other" in next(
            one.text for one in run.why() if one.path == "chord.body"
        )

        # It runs again where they are known.
        app.redis.call("SET", "mended", "1")
        again = run.rerun()
        assert again.get(timeout=60) == 1 + 2 + 4
        assert set(again.values()["value"]) <= {1, 2, 4, 7}

        # What hangs on a call is nobody's to wait for, and heard of all the same.
        linked = call("add", 1, 2)
        linked.link(signature("add", (10,)) | call("fails", 3))
        run = submit(group(linked, call("quiet")), app=app)
        assert run.wait(60).done  # nobody tells how `quiet` ends
        until(lambda: run.counts == {"SUCCESS": 3, "IGNORED": 1}, what="the link has run")
