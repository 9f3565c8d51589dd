"""``run.failed``, and what waiting for a run that failed says (shared/TOUR, section 6)."""

from __future__ import annotations

import inspect
import pickle
import traceback
from html.parser import HTMLParser

import pytest

from nbcanvas import App, chain, chord, group, submit
from nbcanvas.errors import ChordError, NotRegistered, RecordingError, Retry, TimeoutError  # noqa: A004
from tests.running.test_rerun import ended


@pytest.fixture
def add(app):
    """Return a task that cannot add None."""

    @app.task(name="proj.add", bind=True, max_retries=2)
    def add(self, x, y, **_):
        try:
            return x + y
        except TypeError as error:
            if y is None and x % 2:
                raise self.retry(exc=error, countdown=0) from None
            raise

    return add


def text_of(error):
    return "".join(traceback.format_exception(error))


def fails(run):
    with pytest.raises(Exception) as caught:
        run.get(timeout=30)
    return caught.value


def test_what_failed(tasks, add):
    run = ended(submit(group(add.s(i, None if i in (16, 17) else i) for i in range(20)) | tasks.tsum.s(), name="total"))
    assert isinstance(run.failed, tuple) and len(run.failed) == 2
    even, odd = run.failed
    assert (odd.path, odd.name, odd.args, odd.kwargs, odd.retries) == (
        "chord.header[17]",
        "proj.add",
        (17, None),
        {},
        2,
    )
    assert even.retries == 0 and even.worker.startswith("embedded@")
    assert odd.task_id == run.root.steps[0].members[17].id and odd.version == add.version
    assert type(odd.error) is TypeError and "return x + y" in odd.traceback
    assert repr(odd).startswith("chord.header[17] → add(17, None): TypeError: unsupported operand")
    assert repr(run.failed) == f"{even!r}\n{odd!r}"


def test_nothing_failed(tasks, gate):
    run = submit(group(tasks.add.s(1, 1), tasks.held.s()))
    assert run.failed == () and repr(run.failed) == "nothing failed" and "nothing failed" in run.failed._repr_html_()
    gate.set()
    assert ended(run).failed == ()


def test_what_only_waited_did_not_fail(tasks):
    inner = chord([tasks.fail.s(1), tasks.add.s(1, 1)], tasks.tsum.s())
    run = ended(submit(chain(group(inner, tasks.add.s(2, 2)), tasks.tsum.s(), tasks.add.s(1), tasks.fail.si(2))))
    assert [one.path for one in run.failed] == ["chain[0].header[0].chord.header[0]"]
    assert run.snapshot().counts["FAILURE"] == 5


def test_revoked_is_not_failed(tasks, gate):
    run = submit(chain(tasks.held.s(), tasks.add.s(1)))
    run.cancel()
    gate.set()
    assert run.wait(60).failed == ()


def test_arguments_are_those_the_task_was_given(app, tasks):
    @app.task(name="picky", bind=True, max_retries=1)
    def picky(self, *args, **kwargs):
        if not self.request.retries:
            raise self.retry(args=(*args, "more"), countdown=0)
        raise KeyError(args[0])

    run = ended(submit(chain(tasks.add.s(1, 1), picky.s("own", key=[1]))))
    (one,) = run.failed
    assert one.args == (2, "own", "more") and one.kwargs == {"key": [1]} and one.retries == 1
    assert repr(one) == "chain[1] → picky(2, 'own', 'more', key=[1]): KeyError: 2"
    one.kwargs["key"].append(2)
    assert run.failed[0].kwargs == {"key": [1]}
    run = ended(submit(chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.fail.s("own"), stamps=None)))
    assert run.failed[0].args == ([2, 4], "own")


def test_links_replacements_and_children_have_paths(app, tasks):
    @app.task(name="replaces", bind=True)
    def replaces(self):
        tasks.fail.delay("child")
        return self.replace(chain(tasks.add.s(1, 1), tasks.fail.s()))

    first = tasks.add.s(1, 1)
    first.link(tasks.fail.s("link"))
    run = ended(submit(chain(first, replaces.si()), stamps={"experiment": 42}))
    assert {one.path: one.args for one in run.failed} == {
        "chain[0].link[0]": (2, "link"),
        "chain[1].child[0]": ("child",),
        "chain[1]": (2,),
    }
    assert run.failed[0].stamps == {"experiment": 42}


# -- one here ------------------------------------------------------------------------------------------------------


def test_one_runs_here_with_its_real_frames(app, add):
    run = ended(submit(add.s(17, None)))
    before = run.snapshot()
    with pytest.raises(TypeError) as caught:
        run.failed[0].rerun()
    innermost = caught.traceback[-1]
    assert innermost.name == "add" and innermost.frame.f_locals["x"] == 17
    assert caught.value is not run.failed[0].error
    assert run.snapshot() == before and run.rerun is not None

    @app.task(name="proj.add")
    def add_better(x, y):
        return x + (y or 0)

    assert run.failed[0].rerun() == 17
    assert run.snapshot() == before and run.state == "FAILURE"


def test_one_that_is_bound_sees_its_request(app):
    @app.task(name="bound", bind=True)
    def bound(self, fails):
        seen.append((self.request.id, self.request.retries, self.request.args, self.request.stamps))
        self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
        if len(seen) < 2:
            raise ValueError("no")
        return app.current_task is self

    seen = []
    run = ended(submit(bound.s(1), stamps={"a": 1}))
    before = run.snapshot()
    assert run.failed[0].rerun() is True and seen[0] == seen[1]
    assert run.snapshot() == before and run.result.state == "FAILURE"
    assert app.current_task is None


def test_one_that_asks_to_be_retried_raises_why(app):
    @app.task(name="auto", autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0)
    def auto():
        raise ValueError("deep")

    @app.task(name="plainly", bind=True, max_retries=None)
    def plainly(self, *, stop):
        if stop and not more:
            raise KeyError("first")
        if more == ["retry"]:
            raise self.retry(exc=OSError("net"))
        raise self.retry()

    more = []
    one = ended(submit(auto.s())).failed[0]
    with pytest.raises(ValueError, match="deep") as caught:
        one.rerun()
    assert caught.traceback[-1].name == "auto"
    one = ended(submit(plainly.s(stop=True))).failed[0]
    more.append("retry")
    with pytest.raises(OSError, match="net"):
        one.rerun()
    more.append("bare")
    with pytest.raises(Retry):
        one.rerun()


def test_one_that_puts_a_canvas_in_its_place_runs_that_too(app, tasks):
    @app.task(name="replaces", bind=True)
    def replaces(self):
        if not fixed:
            raise ValueError("no")
        return self.replace(tasks.add.s(1, 1) | tasks.add.s(1))

    fixed = []
    one = ended(submit(replaces.s())).failed[0]
    fixed.append(1)
    assert one.rerun() == 3


def test_one_whose_task_is_gone(app, tasks):
    run = ended(submit(tasks.fail.s()))
    del app.tasks["fail"]
    with pytest.raises(NotRegistered, match="fail"):
        run.failed[0].rerun()


def test_a_recording_lists_what_failed_and_cannot_run_it(tasks):
    run = ended(submit(group(tasks.fail.s(1), tasks.add.s(1, 1)) | tasks.tsum.s()))
    (one,) = run.record().failed
    assert repr(one) == repr(run.failed[0]) and one.args == (1,)
    assert one.traceback.splitlines()[-2:] == run.failed[0].traceback.splitlines()[-2:]
    with pytest.raises(RecordingError, match="a recording cannot run fail; call the function with these args"):
        one.rerun()


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_in_any_pool(pool):
    app = App("pools", worker_pool=pool, worker_concurrency=1)

    @app.task(name="divide")
    def divide(x, y):
        return x / y

    run = ended(submit(divide.s(1, 1) | divide.s(0), app=app))
    (one,) = run.failed
    assert one.args == (1.0, 0) and one.path == "chain[1]"
    assert "divide(1.0, 0) failed on " in fails(run).__notes__[-1]
    assert ", in divide" in fails(run).__notes__[-1]
    with pytest.raises(ZeroDivisionError):
        one.rerun()
    app.close()


# -- what a wait says ----------------------------------------------------------------------------------------------


def test_an_error_names_its_node(tasks, add):
    run = submit(chain(tasks.add.s(8, 8), add.s(1), add.s(None)), name="total")
    error = fails(run)
    assert type(error) is TypeError
    text = text_of(error)
    told = text[text.index("chain[2]") :].splitlines()
    assert told[0].startswith("chain[2] → add(17, None) failed on embedded@")
    assert told[0].endswith(", after 2 retries")
    source, start = inspect.getsourcelines(add.__wrapped__)
    line = start + next(i for i, text in enumerate(source) if "return x + y" in text)
    assert f'  File "{__file__}", line {line}, in add' in told
    assert told[-2] == "total.failed[0].rerun() runs it here, for %debug; total.rerun() runs again only what is missing"
    assert told[-1] == "the 2 good results stay in total.frame()"
    assert "execute.py" not in "\n".join(told)


def test_it_is_said_once(tasks):
    run = submit(tasks.add.s(1, 1) | tasks.fail.s())
    notes = [list(fails(run).__notes__) for _ in range(3)]
    assert [len(note) for note in notes] == [1, 1, 1]
    with pytest.raises(ValueError, match="no"):
        run.result.get()
    assert len(fails(run).__notes__) == 1
    assert pickle.loads(pickle.dumps(fails(run))).args == ("no", 2)


def test_at_most_four_of_many(tasks):
    run = ended(submit(group(tasks.fail.s(i) for i in range(50)) | tasks.tsum.s()))
    error = fails(run)
    assert type(error) is ChordError and type(error.__cause__) is ValueError
    note = error.__notes__[-1]
    assert note.count(" failed on ") == 4 and "… and 46 more" in note
    assert note.count("ValueError: ('no', 0)") == 1 and "ValueError: ('no', 3)" in note
    assert (
        f'nbcanvas.attach("{run.id[:8]}").failed[0].rerun() runs the first here' in note and "good result" not in note
    )
    assert len(run.failed) == 50 and "… and 30 more" in repr(run.failed)


def test_the_node_that_is_raised_is_told_first(tasks):
    first = chain(tasks.add.s(1, 1), tasks.fail.s("first"))
    run = ended(submit(group(first, tasks.fail.s("second"))))
    error = fails(run)
    told = [line for line in error.__notes__[-1].splitlines() if " failed on " in line]
    assert repr(error.args[-1]) in told[0] and len(told) == 2


def test_good_results_stay_reachable(tasks):
    run = ended(submit(group(tasks.fail.s(i) if i % 2 else tasks.add.s(i, i) for i in range(4)) | tasks.tsum.s()))
    assert list(run.frame()["result"].dropna()) == [0, 4]
    assert isinstance(run.get(propagate=False), ChordError)
    values = submit(group(tasks.fail.s(), tasks.add.s(1, 1))).get(timeout=30, propagate=False)
    assert type(values[0]) is ValueError and values[1] == 2


def test_a_timeout_is_no_failure(tasks):
    run = submit(tasks.held.s())
    with pytest.raises(TimeoutError) as caught:
        run.get(timeout=0.01)
    assert not hasattr(caught.value, "__notes__")


def test_a_tasks_own_timeout_error_is_one(app):
    @app.task(name="slow")
    def slow():
        raise TimeoutError("mine")

    error = fails(submit(slow.s()))
    assert str(error) == "mine" and len(error.__notes__) == 1


def test_errors_that_resist(app):
    class Closed(Exception):
        def __setattr__(self, name, value):
            raise TypeError

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    @app.task(name="resists")
    def resists(kind):
        raise {"closed": Closed, "mute": Mute}[kind]("no")

    assert type(fails(submit(resists.s("closed")))) is Closed
    run = ended(submit(group(resists.s("closed"), resists.s("mute"))))
    assert [one.args for one in run.failed] == [("closed",), ("mute",)]
    assert len(repr(run.failed).splitlines()) == 2


def test_exception_groups_have_frames(app):
    @app.task(name="several")
    def several():
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ExceptionGroup("many", [error, ValueError("no")]) from None

    lines = fails(submit(several.s())).__notes__[-1].splitlines()
    where = [i for i, line in enumerate(lines) if line.endswith(", in several")]
    assert [lines[i + 1].strip() for i in where] == [
        'raise ExceptionGroup("many", [error, ValueError("no")]) from None',
        'raise KeyError("inner")',
    ]


class Cells(HTMLParser):
    """Collects the tags and the texts of a table."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_nothing_from_data_becomes_markup(tasks):
    evil = "<script>alert(1)</script>\u202e" + "x" * 5_000_000
    run = ended(submit(tasks.fail.s(evil)))
    page = Cells()
    page.feed(run.failed._repr_html_())
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert len(run.failed._repr_html_()) < 2000 and "\u202e" not in "".join(page.texts)
    assert len(repr(run.failed)) < 1000 and "\u202e" not in repr(run.failed)
    assert run.failed[0].args == (evil,)


def test_runs_of_two_apps():
    one, two = App("one"), App("two")

    @one.task(name="same")
    def fails_in_one():
        raise ValueError("one")

    @two.task(name="same")
    def fine_in_two():
        return "two"

    run = ended(submit(fails_in_one.s(), app=one))
    with pytest.raises(ValueError, match="one"):
        run.failed[0].rerun()
    one.close()
    two.close()
