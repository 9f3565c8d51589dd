"""What each fault test begins with: a broker, a fleet with the tasks of `trouble` on it, and what has run."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import nbcanvas
from nbcanvas import chord, group, submit
from tests.cluster.fleet import Fleet
from tests.cluster.trouble import ran
from tests.servers import until

__all__ = ["EARLY", "LATE", "Scene", "ends"]

TASKS: Final = "tests.cluster.trouble"
EARLY: Final[dict[str, Any]] = {}
#: Celery needs the second setting for the death of a pool's child.
LATE: Final = {"task_acks_late": True, "task_reject_on_worker_lost": True}


class Scene:
    """A fleet, a client, and the file in which tasks write that they ran.

    Parameters
    ----------
    url, backend
        Of the servers.
    folder
        For files.
    **conf
        Settings of everybody.

    Attributes
    ----------
    fleet, app
        The fleet and our client.
    path
        The file.
    """

    def __init__(self, url: str, folder: Path, backend: str | None = None, **conf: Any) -> None:
        self.fleet = Fleet(url, backend, TASKS, **conf)
        self.app = self.fleet.client()
        self.folder = folder
        self.path = str(folder / "ran")

    def close(self) -> None:
        """End everything."""
        Path(f"{self.path}.go").touch()
        self.fleet.close()

    def sig(self, name: str, *args: Any, **kwargs: Any) -> nbcanvas.Signature:
        """Return a signature of one of the tasks."""
        return self.app.tasks[name].s(*args, **kwargs)

    def steps(self, count: int, seconds: float = 0.0) -> list[nbcanvas.Signature]:
        """Return so many tasks, numbered."""
        return [self.sig("step", number, self.path, seconds) for number in range(count)]

    def body(self, word: str = "body") -> nbcanvas.Signature:
        """Return a chord's body."""
        return self.sig("body", self.path, word)

    def shape(self, kind: str, members: list[nbcanvas.Signature]) -> nbcanvas.Signature:
        """Return a group or a chord of these."""
        return group(members) if kind == "group" else chord(members, self.body())

    def submit(self, sig: nbcanvas.Signature, **options: Any) -> Any:
        """Start a canvas on the fleet."""
        return submit(sig, app=self.app, **options)

    def ran(self) -> Counter[str]:
        """Return how often what has run."""
        return Counter(ran(Path(self.path)))

    def wait_ran(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many tasks have begun."""
        until(lambda: sum(self.ran().values()) >= count, seconds, f"{count} tasks have begun")

    def go(self) -> None:
        """Let tasks that hold end."""
        Path(f"{self.path}.go").touch()


def ends(run: Any, seconds: float = 60.0) -> Any:
    """Wait until a run is done, whatever it comes to; returns it."""
    end = time.monotonic() + seconds
    while not run.done:
        if time.monotonic() > end:
            open_ = {state: n for state, n in run.counts.items() if n}
            raise AssertionError(f"the run hangs: {open_}\n{run.why() if hasattr(run, 'why') else ''}")
        time.sleep(0.02)
    return run
