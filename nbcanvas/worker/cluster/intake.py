"""How what a worker takes becomes a job; what cannot be read ends as failed, or goes to the dead letters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import time

from nbcanvas.app.settings import ignores_result
from nbcanvas.errors import InvalidTaskError, ServerLost, UntrustedTask
from nbcanvas.ledger.port import Delivery
from nbcanvas.plan import Call, Failed, Message
from nbcanvas.protocol.letter import Letter
from nbcanvas.worker.admission import admit

from .job import Job
from .shared import Shared
from .telling import log_received

__all__ = ["Intake"]


class Intake:
    """Reads what one worker takes.

    Parameters
    ----------
    shared
        The worker's.
    end
        Ends a message (`Endings.end`).
    """

    def __init__(self, shared: Shared, end: Callable[..., bool]) -> None:
        self._shared = shared
        self._app = shared.app
        self._end = end
        self._post = shared.app.post

    def read(self, delivery: Delivery) -> Job | None:
        """Return what is to be done with a message; None when it has ended here."""
        letter = delivery.letter
        if letter is None:
            self._shared.bury(delivery, "its envelope cannot be understood")
            return None
        try:
            # The plan it refers to, or its code, is at a server.
            message = self._shared.patience.ask(partial(admit, self._app, self._post.read, delivery, letter))
        except ServerLost:
            raise  # it stays this worker's until that ends
        except UntrustedTask as error:
            self._untrusted(delivery, letter, error)
            return None
        except Exception as error:  # noqa: BLE001 - anything may stand in a message
            self._unreadable(delivery, letter, error)
            return None
        job = Job(delivery, message)
        self._shared.jobs[delivery.tag] = job
        name, received = message.call.task, self._shared.received
        task = self._app.tasks.find(name, message.call.version)
        if task is not None:  # of others anybody may send any number
            received[name] = received.get(name, 0) + 1
            if (
                ignores_result(task, message.call.options, self._app.defaults)
                and letter.headers.get("ignore_result") is False
            ):
                message.call = message.call.with_options({"ignore_result": False})  # the sender wants it
        log_received(message)
        self._shared.say("received", message, letter.headers)
        return job

    def _unreadable(self, delivery: Delivery, letter: Letter, error: Exception) -> None:
        """Bury a message; the task it names ends as failed, so that nobody waits for it."""
        reason = f"{type(error).__name__}: {error}"
        task_id, task = letter.headers.get("id"), letter.headers.get("task")
        if not isinstance(task_id, str) or not isinstance(task, str):
            self._shared.bury(delivery, reason)
            return
        self._shared.unreadable += 1
        root_id = str(letter.headers.get("root_id") or task_id)
        message = Message(Call(task_id, task, ()), (), None, root_id, None, time())
        job = Job(delivery, message)
        self._shared.jobs[delivery.tag] = job
        self._end(job, Failed(error if isinstance(error, InvalidTaskError) else InvalidTaskError(reason)), dead=reason)

    def _untrusted(self, delivery: Delivery, letter: Letter, error: UntrustedTask) -> None:
        """End a task whose code must not be run; its arguments need not be understood for that."""
        try:
            message = self._shared.patience.ask(partial(self._post.read, letter))
        except ServerLost:
            raise
        except Exception as worse:  # noqa: BLE001 - as in `read`
            self._shared.bury(delivery, f"{error}; {type(worse).__name__}: {worse}")
            return
        job = Job(delivery, message)
        self._shared.jobs[delivery.tag] = job
        self._end(job, Failed(error), dead=str(error))
