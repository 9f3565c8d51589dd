"""What is measured: sizes, figures, targets, and who takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .work import BURN_MS

OURS = "nbcanvas"

#: They need seconds for what others do in milliseconds: not in a quick run.
SLOW = frozenset({"celery", "dask"})


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
    """

    name: str
    size: int
    title: str
    figures: Sequence[Figure]
    peers: Sequence[str] = ()
    repeats: int | None = None
    quick_size: int | None = None

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


def _rate(target: float) -> Sequence[Figure]:
    return (Figure("rate", "tasks/s", target, more_is_better=True),)


def _time(target: float) -> Sequence[Figure]:
    return (Figure("time", "ms", target),)


_MANY = ("executor", "huey", "joblib", "taskiq", "dramatiq")

CASES: Sequence[Case] = (
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

SCALINGS: Sequence[Scaling] = (
    Scaling("group", "rate", 1.25, per_task=False, title="group: the same rate at every size"),
    Scaling("chain", "time", 1.25, per_task=True, title="chain: the same cost of a step at every size"),
)
