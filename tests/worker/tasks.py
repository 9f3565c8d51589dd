"""The tasks of the worker's tests; `define` makes them for one app, as functions a child process cannot import."""

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from nbcanvas import Task, allow_join_result
from nbcanvas.errors import Ignore, Reject, SoftTimeLimitExceeded


class NeedsTwo(Exception):
    """Pickles, but cannot be rebuilt."""

    def __init__(self, one, two):
        super().__init__(one)


class NoRepr(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


class Fatal(BaseException):
    pass


class Flaky(Exception):
    pass


def note(path, text):
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def notes(path):
    return Path(path).read_text().split("\n")[:-1] if Path(path).exists() else []


def define(app):
    def add(x, y):
        return x + y

    def tsum(numbers):
        return sum(numbers)

    def echo(value):
        return value

    def fail(text="no"):
        raise ValueError(text)

    def lock():
        return threading.Lock()

    def stream():
        yield 1

    def sys_exit():
        sys.exit(3)

    def os_exit():
        os._exit(3)

    def suicide(signal):
        os.kill(os.getpid(), signal)
        time.sleep(10)

    def recurse(n=0):
        return recurse_more(n)

    def recurse_more(n):
        return recurse_more(n + 1) + 1

    def no_memory():
        raise MemoryError("all gone")

    def chatter(megabytes):
        for _ in range(megabytes * 16):
            print("x" * 65535)
            print("y" * 100, file=sys.stderr)
        return "said"

    def closes_stdout():
        sys.stdout.close()
        sys.stdout = None
        return "closed"

    def prints():
        print("hello")
        return "said"

    def needs_two():
        raise NeedsTwo("first", "second")

    def holds_lock():
        raise ValueError("locked", threading.Lock())

    def local_error():
        class Local(Exception):
            pass

        raise Local("from here")

    def no_repr():
        raise NoRepr

    def interrupted():
        raise KeyboardInterrupt

    def fatal():
        raise Fatal("base")

    def ignored():
        raise Ignore("nothing to see")

    def rejected():
        raise Reject("not me")

    def rejects_once(path):
        note(path, "ran")
        if len(notes(path)) == 1:
            raise Reject("again", requeue=True)
        return len(notes(path))

    def nap(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.005)
        return "slept"

    def patient(path):
        try:
            time.sleep(0.02)
            nap(10)
        except SoftTimeLimitExceeded:
            note(path, "cleaned")
            return "cleaned"

    def hold(path):
        note(f"{path}.started", os.getpid())
        until = time.monotonic() + 100
        while not Path(path).exists() and time.monotonic() < until:
            time.sleep(0.005)
        return "held"

    def write(path, text):
        note(path, text)
        return text

    def stamp(path, *_):
        note(path, time.time())

    def where():
        return os.getpid(), os.getpgrp()

    def flaky(self, path, times):
        note(path, self.request.retries)
        if self.request.retries < times:
            raise Flaky(str(self.request.retries))
        return self.request.retries

    def again(self, x, y=0):
        if self.request.retries == 0:
            raise self.retry(args=(x + 1,), kwargs={"y": 5}, countdown=0)
        return x, y, self.request.retries

    def quietly(self):
        if self.request.retries == 0:
            self.retry(countdown=0, throw=False)
            return "thrown away"
        return "second"

    def for_ever(self, path, with_error):
        note(path, self.request.retries)
        try:
            raise Flaky("always")
        except Flaky as error:
            raise self.retry(exc=error if with_error else None, countdown=0, max_retries=2) from None

    def half_way(self):
        self.update_state(state="HALF", meta={"done": 50})
        raise Ignore

    def custom(self, path):
        self.update_state(state="CUSTOM", meta={"at": 1})
        hold(path)
        return "end"

    def tracked(self, path):
        for i in self.track([1, 2]):
            hold(f"{path}{i}")

    def who(self, *args, **kwargs):
        r = self.request
        return {
            "id": r.id,
            "root_id": r.root_id,
            "parent_id": r.parent_id,
            "retries": r.retries,
            "args": list(r.args),
            "kwargs": dict(r.kwargs),
            "group": r.group,
            "group_index": r.group_index,
            "hostname": r.hostname,
            "stamps": dict(r.stamps),
            "direct": r.called_directly,
            "chain": r.chain and len(r.chain),
            "callbacks": r.callbacks and len(r.callbacks),
            "chord": r.chord is not None,
            "task": r.task,
            "queue": app_of(self).conf.task_default_queue,
            "current": app_of(self).current_task.name,
        }

    def app_of(self):
        return self.app

    def starts(self, n):
        results = [self.app.send_task("add", (i, 1)) for i in range(n)]
        with allow_join_result():
            return [r.get(timeout=60) for r in results]

    def blocks(self):
        return self.app.send_task("add", (1, 1)).get(timeout=60)

    def reads(self, task_id):
        result = self.app.AsyncResult(task_id)
        return result.state, result.result if result.state == "SUCCESS" else repr(result.result), result.name

    def revokes(self, task_id):
        self.app.control.revoke(task_id)
        return self.app.AsyncResult(task_id).state

    def replaced(self, x):
        return self.replace(self.app.signature("add", (x, 1)) | self.app.signature("add", (10,)))

    def replaced_by_group(self, n):
        from nbcanvas import group

        return self.replace(group(self.app.signature("add", (i, i)) for i in range(n)))

    def replaced_badly(self):
        return self.replace(self.app.signature("tsum") | self.app.signature("tsum", (threading.Lock(),)))

    plain = [
        add,
        tsum,
        echo,
        fail,
        lock,
        stream,
        sys_exit,
        os_exit,
        suicide,
        recurse,
        no_memory,
        chatter,
        closes_stdout,
        prints,
        needs_two,
        holds_lock,
        local_error,
        no_repr,
        interrupted,
        fatal,
        ignored,
        rejected,
        rejects_once,
        nap,
        patient,
        hold,
        write,
        stamp,
        where,
    ]
    bound = [
        again,
        quietly,
        for_ever,
        half_way,
        custom,
        tracked,
        who,
        starts,
        blocks,
        reads,
        revokes,
        replaced,
        replaced_by_group,
        replaced_badly,
    ]
    made = {fun.__name__: app.task(name=fun.__name__)(fun) for fun in plain}
    made |= {fun.__name__: app.task(name=fun.__name__, bind=True)(fun) for fun in bound}
    made["flaky"] = app.task(
        name="flaky",
        bind=True,
        autoretry_for=(Flaky,),
        retry_backoff=True,
        retry_jitter=False,
        retry_backoff_max=0,
        retry_kwargs={"max_retries": 3},
    )(flaky)
    made["poison"] = app.task(name="poison", acks_late=True, reject_on_worker_lost=True)(
        lambda path: (note(path, "died"), os._exit(7))
    )
    made["dies_once"] = app.task(name="dies_once", acks_late=True, reject_on_worker_lost=True)(
        lambda path: (note(path, "ran"), os._exit(7) if len(notes(path)) == 1 else None, "alive")[-1]
    )

    class Hooked(Task):
        def before_start(self, task_id, args, kwargs):
            note(args[0], "before_start")

        def on_success(self, retval, task_id, args, kwargs):
            note(args[0], f"on_success {retval}")

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            whole = einfo.type is ValueError and "ValueError" in einfo.traceback == str(einfo)
            note(args[0], f"on_failure {exc} {whole}")

        def on_retry(self, exc, task_id, args, kwargs, einfo):
            note(args[0], f"on_retry {exc}")

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            note(args[0], f"after_return {status}")

    def hooked(self, path, end):
        note(path, "run")
        if end == "fail":
            raise ValueError("bad")
        if end == "retry" and not self.request.retries:
            raise self.retry(exc=ValueError("once"), countdown=0)
        return end

    made["hooked"] = app.task(name="hooked", bind=True, base=Hooked)(hooked)

    class Adder(Task):
        name = "adder"
        start = 100

        def run(self, x):
            return self.start + x

    made["adder"] = app.register_task(Adder)
    return SimpleNamespace(**made)
