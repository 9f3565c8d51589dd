"""What is measured: sizes, figures, targets, and who takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .work import BURN_MS

OURS = "nbcanvas"

#: They need seconds for what others do in milliseconds: not in a quick run.
SLOW = frozenset({"celery", "celery_tuned", "celery_solo", "dask", "ray", "rq", "ipyparallel"})


@dataclass(frozen=True)
class Figure:
    """One number that a measurement gives."""

    name: str
    unit: str
    target: float | None = None
    more_is_better: bool = False

    def meets(self, value: float) -> bool | None:
        """Whether `value` meets the target; None without one."""
        if self.target is None:
            return None
        return value >= self.target if self.more_is_better else value <= self.target

    def advantage(self, ours: float, theirs: float) -> float:
        """How many times better `ours` is than `theirs`."""
        return ours / theirs if self.more_is_better else theirs / ours


@dataclass(frozen=True)
class Case:
    """One measurement at one size, by ours and by peers.

    Attributes
    ----------
    name
        What adapters call it.
    size
        How many tasks, calls or runs.
    title
        What the table calls it.
    repeats
        Processes a contender, when fewer than asked for will do.
    quick_size
        The size in a quick run; None leaves the case out of it.
    room
        Where the adapters are: `peers` for work inside the process, `cluster` for work over a Redis.
    ours
        Which adapter is ours.
    limit
        Seconds for one process, when the usual limit will not do.
    asked
        Whether it is measured only when its size is asked for.
    """

    name: str
    size: int
    title: str
    figures: Sequence[Figure]
    peers: Sequence[str] = ()
    repeats: int | None = None
    quick_size: int | None = None
    room: str = "peers"
    ours: str = OURS
    limit: float | None = None
    asked: bool = False

    @property
    def label(self) -> str:
        """The title with the size in it."""
        return self.title.format(n=f"{self.size:,}".replace(",", " "))


@dataclass(frozen=True)
class Scaling:
    """A promise over sizes: the worst cost of a task is at most `within` times the best."""

    case: str
    figure: str
    within: float
    per_task: bool
    title: str


@dataclass(frozen=True)
class Share:
    """A promise between two cases of one size: that one takes at most `within` times as long a task as the other."""

    case: str
    other: str
    within: float
    title: str


def _rate(target: float) -> Sequence[Figure]:
    return (Figure("rate", "tasks/s", target, more_is_better=True),)


def _time(target: float) -> Sequence[Figure]:
    return (Figure("time", "ms", target),)


_MANY = ("executor", "huey", "joblib", "taskiq", "dramatiq")

INSIDE: Sequence[Case] = (
    Case("group", 1_000, "group of {n}", _rate(50_000), (*_MANY, "celery", "dask"), quick_size=1_000),
    Case("group", 10_000, "group of {n}", _rate(50_000), _MANY),
    Case("group", 100_000, "group of {n}", _rate(50_000), _MANY),
    Case(
        "roundtrip",
        1_000,
        "round trip (of {n})",
        (Figure("p50", "ms", 0.1), Figure("p99", "ms", 0.3)),
        ("executor", "huey", "celery", "dask"),
        quick_size=300,
    ),
    Case("chain", 100, "chain of {n}", _time(5), ("huey", "celery", "dask"), quick_size=100),
    Case("chain", 1_000, "chain of {n}", _time(50), ("huey", "celery")),
    Case("chain", 10_000, "chain of {n}", _time(500)),
    Case("chord", 1_000, "chord of {n}", _time(20), ("huey", "celery", "dask"), quick_size=1_000),
    Case(
        "build", 100_000, "build a group of {n}", (Figure("each", "µs/signature", 1.2),), ("celery",), quick_size=10_000
    ),
    Case("plan", 100_000, "plan a group of {n}", (Figure("each", "µs/signature", 5),), ("celery",), quick_size=10_000),
    Case(
        "memory",
        100_000,
        "client memory, group of {n}",
        (Figure("built", "bytes/task"), Figure("built and planned", "bytes/task", 600)),
        ("celery",),
        repeats=1,
        quick_size=5_000,
    ),
    Case(
        "memory-run",
        100_000,
        "client memory, a whole Run of {n}",
        (Figure("signature kept", "bytes/task"), Figure("signature let go", "bytes/task")),
        repeats=1,
        quick_size=5_000,
    ),
    Case(
        "cpu",
        400,
        f"{{n}} CPU tasks of {BURN_MS} ms, 2 processes",
        (Figure("share", "of two cores", 0.9, more_is_better=True),),
        ("joblib", "loky"),
        quick_size=200,
    ),
    Case(
        "import",
        5,
        "import",
        (Figure("process", "ms", 50), Figure("-X importtime", "ms")),
        ("celery", "python"),
        quick_size=3,
    ),
    Case("cold", 5, "cold start to first result", (Figure("process", "ms", 100),), ("celery",), quick_size=3),
)

_ON_REDIS = ("celery", "celery_tuned", "dramatiq", "huey", "taskiq", "arq", "rq")
_ON_THEIR_OWN = ("dask", "ipyparallel", "ray")


def _cluster(name: str, size: int, title: str, figures: Sequence[Figure], peers: Sequence[str], **more: Any) -> Case:
    more = {"room": "cluster", "repeats": 3, "limit": 120.0} | more
    return Case(f"cluster-{name}", size, title, figures, peers, **more)


_STAGES = (Figure("k=5", "bytes/task"), Figure("k=50", "bytes/task"), Figure("k=50 / k=5", "times", 1.25))

CLUSTER: Sequence[Case] = (
    _cluster("group", 10_000, "group of {n}, 2 worker processes", _rate(12_000), (*_ON_REDIS, *_ON_THEIR_OWN)),
    _cluster("submit", 10_000, "submit a group of {n}", (Figure("time", "s", 0.15),), _ON_REDIS),
    _cluster(
        "stock",
        10_000,
        "group of {n}, client on 2 stock solo Celery workers",
        _rate(1_400),
        ("celery_solo",),
        ours="nbcanvas_celery",
    ),
    _cluster(
        "roundtrip",
        500,
        "round trip (of {n})",
        (Figure("p50", "ms", 0.6), Figure("p99", "ms")),
        (*_ON_REDIS, *_ON_THEIR_OWN),
        quick_size=300,
    ),
    _cluster("small", 100, "group of {n}", _time(20), (*_ON_REDIS, *_ON_THEIR_OWN), quick_size=100),
    _cluster(
        "chain",
        1_000,
        "chain of {n}",
        (Figure("time", "s", 1), Figure("messages", "MB", 2)),
        ("celery", "celery_tuned", "huey", "dask", "ray"),
        quick_size=100,
    ),
    _cluster("stages", 10, "k stages of group({n}) | task", _STAGES, ("celery_tuned",), repeats=1),
    _cluster("stages", 100, "k stages of group({n}) | task", _STAGES, (), repeats=1),
    _cluster(
        "chord", 10_000, "chord of {n}", (Figure("time", "s"),), ("celery", "celery_tuned", "huey", "dask", "ray")
    ),
    _cluster(
        "kept",
        10_000,
        "kept in Redis",
        (Figure("each", "bytes/task", 420),),
        ("celery_tuned",),
        repeats=1,
        quick_size=1_000,
    ),
    _cluster(
        "memory",
        100_000,
        "two workers over {n} tasks",
        (Figure("warm", "MB"), Figure("growth", "MB", 4)),
        (),
        repeats=1,
        limit=400.0,
    ),
    _cluster(
        "memory",
        1_000_000,
        "two workers over {n} tasks",
        (Figure("warm", "MB"), Figure("growth", "MB", 4)),
        (),
        repeats=1,
        limit=4_000.0,
        asked=True,
    ),
)

CASES: Sequence[Case] = (*INSIDE, *CLUSTER)

SCALINGS: Sequence[Scaling] = (
    Scaling("group", "rate", 1.25, per_task=False, title="group: the same rate at every size"),
    Scaling("chain", "time", 1.25, per_task=True, title="chain: the same cost of a step at every size"),
)

SHARES: Sequence[Share] = (Share("cluster-chord", "cluster-group", 1.3, "chord against group, on Redis"),)
