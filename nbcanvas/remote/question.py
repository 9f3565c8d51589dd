"""Commands, whom they mean, and what is answered: plain values, which need no server."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Answer", "Answers", "Question", "matches"]


class Answer(NamedTuple):
    """What one worker answered."""

    worker: str
    reply: Any


class Question(NamedTuple):
    """A command, and who is meant by it.

    Attributes
    ----------
    method, arguments
        What is asked or told.
    destination
        Names of workers; None is everybody.
    pattern, matcher
        Only workers whose names match (``glob`` or ``pcre``).
    """

    method: str
    arguments: Mapping[str, Any]
    destination: Sequence[str] | None = None
    pattern: str | None = None
    matcher: str | None = None

    def means(self, worker: str) -> bool:
        """Say whether a worker is meant."""
        if self.destination:
            return worker in self.destination
        return not self.pattern or matches(worker, self.pattern, self.matcher)

    def body(self) -> dict[str, Any]:
        """Return it as it travels."""
        return {
            "method": self.method,
            "arguments": dict(self.arguments),
            "destination": None if self.destination is None else [*self.destination],
            "pattern": self.pattern,
            "matcher": self.matcher,
        }


class Answers(Iterator[Answer]):
    """Answers to one question, one after the other as they come.

    Parameters
    ----------
    answers
        Where they come from.
    expected
        Workers that were asked, as far as that is known; whoever answers is taken out.

    Attributes
    ----------
    missing
        Workers that were asked and have not answered (yet).
    """

    def __init__(self, answers: Iterator[Answer], expected: set[str]) -> None:
        self._answers = answers
        self._expected = expected

    def __next__(self) -> Answer:
        return next(self._answers)

    @property
    def missing(self) -> tuple[str, ...]:
        """See above."""
        return tuple(sorted(self._expected))


def matches(hostname: str, pattern: Any, matcher: Any) -> bool:
    """Say whether a worker's name matches, by Celery's matchers ``glob`` and ``pcre``.

    Raises
    ------
    ValueError
        For another matcher, or a pattern that is none.
    """
    if not isinstance(pattern, str):
        msg = f"a pattern is a text, not {type(pattern).__name__}"
        raise ValueError(msg)  # noqa: TRY004
    if matcher == "glob":
        return fnmatch.fnmatchcase(hostname, pattern)
    if matcher == "pcre":
        try:
            return re.compile(pattern).match(hostname) is not None
        except re.error as error:
            msg = f"the pattern {pattern!r} is no regular expression: {error}"
            raise ValueError(msg) from None
    msg = f"there is no matcher {matcher!r}; choose glob or pcre"
    raise ValueError(msg)
