"""Try one version of Celery, from PyPI, with ours, in both directions, on a Redis of its own.

    .venv/bin/python scripts/try_celery.py 5.4 [kombu==5.3.7 …]

Makes build/celery-VERSION once; the exit code is the number of differences.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PROJECT = """
import os, time
import redis
from {library} import {name} as App
url = os.environ["URL"]
app = App("proj", broker=url, backend=url)
app.conf.broker_connection_retry_on_startup = True
told = redis.Redis.from_url(url)

@app.task(name="proj.add")
def add(x, y): return x + y
@app.task(name="proj.mul")
def mul(x, y): return x * y
@app.task(name="proj.tsum")
def tsum(numbers): return sum(numbers)
@app.task(name="proj.sleep")
def sleep(seconds): time.sleep(seconds)
@app.task(name="proj.fail")
def fail(x): raise ValueError(f"no {{x}}")
@app.task(name="proj.flaky", bind=True, max_retries=3)
def flaky(self, until):
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return self.request.retries
@app.task(name="proj.train", bind=True)
def train(self, epochs):
    for i in range(epochs):
        time.sleep(0.2)
        self.update_state(state="PROGRESS", meta={{"current": i + 1, "total": epochs}})
    return epochs
@app.task(name="proj.new")
def new(request, exc, traceback): told.set(f"told-{{request.id}}", repr(exc))
@app.task(name="proj.old")
def old(uuid): told.set(f"told-{{uuid}}", "old")
"""

#: Runs with either library; `chain`, `group`, `chord` and the tasks are what it imports.
CLIENT = """
import sys, time
import redis
from proj import add, app, fail, flaky, mul, new, old, sleep, told, train, tsum
from {library} import chain, chord, group
bad = 0
def check(name, do, right):
    global bad
    try: found = do()
    except BaseException as error: found = error
    good = right(found) if callable(right) else found == right
    bad += not good
    print("  ok  " if good else "  BAD ", name, "" if good else repr(found), flush=True)
def got(sig): return sig.apply_async().get(timeout=30)
def after(seconds, do): time.sleep(seconds); return do()
def errback(sig):
    sent = fail.apply_async((7,), link_error=sig)
    try: sent.get(timeout=30)
    except ValueError: pass
    return after(1, lambda: told.get(f"told-{{sent.id}}"))
def linked():
    sent = add.apply_async((5, 5), link=mul.s(2)); sent.get(timeout=30)
    return after(0.5, lambda: sent.children[0].get(timeout=30))
def progress():
    sent = train.delay(8); time.sleep(0.8)
    return sent.state, sent.get(timeout=30)
def error(kind): return lambda found: kind in [one.__name__ for one in type(found).__mro__]
def only(replies): return next(iter(replies.values()))
check("task", lambda: got(add.s(1, 2)), 3)
check("chain", lambda: got(add.s(1, 2) | mul.s(3)), 9)
check("group", lambda: got(group(add.s(i, i) for i in range(20))), [2 * i for i in range(20)])
check("chord", lambda: got(chord([add.s(i, i) for i in range(20)], tsum.s())), 380)
inner = mul.s(2) | group(add.s(i) for i in range(3)) | tsum.s()
check("nested chord", lambda: got(chain(add.s(1, 1), group(inner, mul.s(3)), tsum.s())), 21)
check("chord of chords", lambda: got(chord(
    [chord([add.s(i, j) for i in range(3)], tsum.s()) for j in range(3)], tsum.s())), 18)
check("chain into a group", lambda: got(add.s(1, 1) | group(mul.s(2), mul.s(3))), [4, 6])
check("retry", lambda: got(flaky.s(2)), 2)
check("chord of retries", lambda: got(group(flaky.s(1), flaky.s(2)) | tsum.s()), 3)
check("failure", lambda: got(fail.s(3)), error("ValueError"))
check("failing header", lambda: got(chord([add.s(1, 1), fail.s(3)], tsum.s())), lambda e: "no 3" in str(e))
check("errback", lambda: errback(new.s()), lambda said: b"no 7" in (said or b""))
check("errback, old form", lambda: errback(old.s()), b"old")
check("link", linked, 20)
check("progress", progress, ("PROGRESS", 8))
check("expired", lambda: add.apply_async((1, 1), expires=-1).get(timeout=30), error("TaskRevokedError"))
ask = app.control.inspect(timeout=3)
check("ping", lambda: only(ask.ping()), {{"ok": "pong"}})
check("stats", lambda: "pool" in only(ask.stats()), True)
check("registered", lambda: any("proj.add" in one for one in only(ask.registered())), True)
busy = sleep.delay(60)
check("active", lambda: after(1, lambda: [one["id"] for one in only(ask.active())]), [busy.id])
later = add.apply_async((1, 1), countdown=300)
check("scheduled", lambda: after(0.5, lambda: [one["request"]["id"] for one in only(ask.scheduled())]), [later.id])
app.control.revoke(later.id)
check("revoked", lambda: after(0.5, lambda: later.id in only(ask.revoked())), True)
busy.revoke(terminate=True)
check("terminated", lambda: busy.get(timeout=30), error("TaskRevokedError"))
check("pool_grow", lambda: "ok" in only(app.control.pool_grow(1, reply=True)[0]), True)
check("group of 500", lambda: sum(got(group(add.s(1, i) for i in range(500)))), 500 + 500 * 499 // 2)
sys.stdout.flush()
import os; os._exit(bad)
"""


def main() -> int:
    """Try both directions; return how many checks were not as they should be."""
    from tests.servers import Redis

    version, *others = sys.argv[1:]
    theirs = ROOT / "build" / f"celery-{version}"
    if not (theirs / "bin" / "celery").exists():
        subprocess.run([sys.executable, "-m", "venv", theirs], check=True)
        packages = [f"celery[redis]=={version}{'' if version.count('.') > 1 else '.*'}", *others]
        subprocess.run([theirs / "bin" / "pip", "install", "--quiet", *packages], check=True)
    bins = {"celery": theirs / "bin", "nbcanvas": Path(sys.executable).parent}
    names = {"celery": "Celery", "nbcanvas": "App"}
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        redis = Redis(Path(name))
        try:
            for client, worker in (("nbcanvas", "celery"), ("celery", "nbcanvas")):
                print(f"client {client}, worker {worker} (Celery {version})", flush=True)
                env = {**os.environ, "URL": f"{redis.url[:-1]}{int(client == 'celery')}"}
                for library in (client, worker):
                    folder = Path(name) / f"{client}-{library}"
                    folder.mkdir()
                    (folder / "proj.py").write_text(PROJECT.format(library=library, name=names[library]))
                pool = ["-P", "processes"] if worker == "nbcanvas" else []
                command = [str(bins[worker] / worker), "-A", "proj", "worker", "-c", "2", "-l", "INFO", *pool]
                with (Path(name) / f"{worker}.log").open("w+") as log:
                    folder = Path(name) / f"{client}-{worker}"
                    running = subprocess.Popen(
                        command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
                    )
                    try:
                        while "ready" not in Path(log.name).read_text() and running.poll() is None:
                            time.sleep(0.1)
                        asked = [str(bins[client] / "python"), "-c", textwrap.dedent(CLIENT.format(library=client))]
                        bad += subprocess.run(
                            asked, cwd=Path(name) / f"{client}-{client}", env=env, check=False
                        ).returncode
                    finally:
                        os.killpg(running.pid, signal.SIGKILL)
                        running.wait()
        finally:
            redis.stop()
    return bad


if __name__ == "__main__":
    sys.exit(main())
