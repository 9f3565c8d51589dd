"""`python -m benchmarks` runs and prints its table; how fast things are is not a test."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
def test_a_quick_group_prints_and_keeps_a_row(tmp_path):
    table, figures = tmp_path / "bench.md", tmp_path / "bench.json"
    done = bench("--quick", "group", "--no-peers", "--markdown", str(table), "--json", str(figures))
    assert done.returncode == 0, done.stderr
    assert table.read_text() == done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("| group of 1 000"))
    assert [cell.strip() for cell in row.split("|")[2:7:4]] == ["nbcanvas", "tasks/s"]
    [case] = json.loads(figures.read_text())
    [entry] = case["entries"]
    assert len(entry["figures"]["rate"]) == 1
    assert entry["figures"]["rate"][0] > 0


def test_an_unknown_name_is_refused_with_the_names_there_are():
    done = bench("grup")
    assert done.returncode == 2
    assert "there is no grup; choose from build, chain" in done.stderr


def _contender(tmp_path, monkeypatch, code, limit=60.0):
    from benchmarks import contest

    peers = tmp_path / "benchmarks" / "peers"
    peers.mkdir(parents=True, exist_ok=True)
    for package in (peers.parent, peers):
        (package / "__init__.py").touch()
    (peers / "some.py").write_text(code)
    monkeypatch.setattr(contest, "ROOT", tmp_path)
    from benchmarks.cases import CASES

    return contest.hold(CASES[0], ["some"], 2, limit, lambda _: None).entries[0]


def test_a_peer_that_fails_is_a_row_with_the_reason(tmp_path, monkeypatch):
    entry = _contender(tmp_path, monkeypatch, "import a_peer_that_is_not_there")
    assert entry.failure == "ModuleNotFoundError: No module named 'a_peer_that_is_not_there'"


def test_a_peer_that_hangs_is_given_up_with_all_it_started(tmp_path, monkeypatch):
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('new').write_text(str(child.pid))\n"
        "pathlib.Path('new').rename('pid')\n"
        "time.sleep(60)"
    )
    for limit in (1.0, 5.0, 25.0):  # as long as this machine needs to start it
        entry = _contender(tmp_path, monkeypatch, code, limit)
        assert entry.failure == f"gave up after {limit:.0f} s"
        if (tmp_path / "pid").exists():
            break
    assert _ends(int((tmp_path / "pid").read_text()))


def _ends(pid):
    state = Path(f"/proc/{pid}/stat")
    for _ in range(6_000):  # a signal takes a moment to arrive
        try:
            if state.read_text().rsplit(")")[-1].split()[0] == "Z":  # dead, and waiting for its new parent to notice
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.servers
def test_a_quick_group_on_a_cluster_prints_a_row_of_ours_and_of_a_peer(tmp_path):
    report = str(tmp_path / "bench.md")
    done = bench("--quick", "cluster-small", "--peer", "celery", "--limit", "60", "--markdown", report)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| group of 100")]
    assert [[cell.strip() for cell in row.split("|")[2:7:4]] for row in rows] == [["nbcanvas", "ms"], ["celery", "ms"]]
    assert "- Redis " in done.stdout


@pytest.mark.servers
def test_messages_of_a_cluster_are_counted_as_they_pass(redis_url, monkeypatch):
    import redis

    from benchmarks.cluster import server

    monkeypatch.setattr(server, "URL", redis_url)
    with redis.Redis.from_url(redis_url) as client, server.messages() as heard:
        client.lpush("celery", b'{"a": "\\"\x00"}', b"1234")
        client.eval("redis.call('RPUSH', 'other', 'in a script')", 0)
        client.set("celery-task-meta-1", "a result")
        client.set("nbcanvas-plan-1", "12345")
    assert heard.count == 2
    assert heard.bytes >= len(b'{"a": "\\"\x00"}') + 4 + len("in a script") + 5
    assert heard.bytes <= len(b'{"a": "\\"\x00"}') + 4 + len("in a script") + 5 + 3


def test_an_unknown_peer_is_refused_with_the_peers_there_are():
    done = bench("cluster-group", "--peer", "nobody")
    assert done.returncode == 2
    assert "there is no peer nobody; choose from arq, celery" in done.stderr
