"""How an idle worker waits on Redis: the server hands it the next message of a list, and takes it, without being asked.

A connection waits for one list.  It sends two commands at once: one that blocks until there is a message and moves it
into a list of this worker's, and the script that takes what is in there.  So a message that comes is recorded as this
worker's, as begun, and is on its way to it within one and the same stroke of the server.

What the worker has to write before it waits goes the same way, in front of the two: one exchange for both.

A connection that is let go of while its commands are not answered may still be served: the server hears of its end
late.  It is made sure that it will not be, before anybody looks for what it may have taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from nbcanvas.errors import ServerLost
from nbcanvas.servers.ready import ready
from nbcanvas.servers.redis import Command, Link, RedisServer, Refused, Script

__all__ = ["Waiting"]

#: Seconds the server waits for a message to hand over, at a time.
_WAIT: Final = 5
#: Redis writes first to whom it came to write last: with this answer owed before the script, the clients that it tells
#: come first, and they are in a hurry.
_FIRST: Final = ("PING",)
#: Seconds for the answers of a connection that is to wait no more.
_LAST: Final = 2.0


class _Waiter:
    """A connection that waits for one list.

    Attributes
    ----------
    link
        The connection.
    number, address
        What the server calls it.
    tags
        What its take may call messages; empty while it waits for nothing.
    """

    __slots__ = ("address", "link", "number", "tags")

    def __init__(self, link: Link, script: Script) -> None:
        self.link = link
        self.tags = range(0)
        link.send(("SCRIPT", "LOAD", script.text), ("CLIENT", "INFO"))
        link.read()
        reply = link.read()
        if isinstance(reply, Exception):
            link.close()
            raise Refused(f"the server does not say which connection this is: {reply}")
        said = dict(part.split("=", 1) for part in reply.decode().split() if "=" in part)
        self.number, self.address = said["id"], said["addr"]


class Waiting:
    """The connections of one worker that wait for messages; used by one thread at a time.

    Parameters
    ----------
    server
        Where to.
    script
        What takes.
    handed
        Names the list of this worker that messages of a list are handed into.
    take
        Gives the keys and arguments of `script` for a list, and the tags it may use.

    Attributes
    ----------
    unsure
        Tags of messages that may have been taken, and whose answer was lost.
    """

    def __init__(
        self,
        server: RedisServer,
        script: Script,
        handed: Callable[[str], str],
        take: Callable[[str], tuple[Sequence[str], Sequence[int], range]],
    ) -> None:
        self._server = server
        self._script = script
        self._handed = handed
        self._take = take
        self._waiters: dict[str, _Waiter] = {}
        self._ghosts: list[tuple[str, str]] = []
        self.unsure: list[range] = []

    @property
    def begun(self) -> bool:
        """Whether a list is waited for."""
        return any(waiter.link.owed for waiter in self._waiters.values())

    def begin(self, keys: Sequence[str]) -> None:
        """Wait for these lists, and for no other."""
        for key in [key for key in self._waiters if key not in keys]:
            self._drop(key)
        for key in keys:
            if not self._waiter(key).link.owed:
                self._arm(key)

    def run(self, key: str, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Have a script run, and wait for a list behind it; returns what the script does.

        Raises
        ------
        ServerLost
            When the server is away: the script was run, or not.
        """
        waiter = self._waiter(key)
        try:
            self._arm(key, _FIRST, script.call(keys, args))
            waiter.link.read()
            reply = waiter.link.read()
        except BaseException:
            self._drop(key)
            raise
        return self._server.ran(reply, script, keys, args)

    def _waiter(self, key: str) -> _Waiter:
        waiter = self._waiters.get(key)
        if waiter is not None and not waiter.link.owed and waiter.link.stale:
            self._drop(key)
            waiter = None
        if waiter is None:
            waiter = self._waiters[key] = _Waiter(self._server.connect(), self._script)
        return waiter

    def _arm(self, key: str, *before: Command) -> None:
        waiter = self._waiters[key]
        keys, args, waiter.tags = self._take(key)
        waiter.link.send(
            *before,
            ("BLMOVE", key, self._handed(key), "RIGHT", "LEFT", _WAIT),
            self._script.call(keys, args),
        )

    def come(self, seconds: float, bell: int) -> list[str] | None:
        """Return for which lists something has come within some seconds; None when the bell rings."""
        files = {waiter.link.fileno(): key for key, waiter in self._waiters.items()}
        here = [key for key, waiter in self._waiters.items() if waiter.link.ahead]
        found = ready([*files, bell], 0 if here else seconds)
        return None if bell in found else here or [files[number] for number in found]

    def read(self, key: str) -> Sequence[bytes] | None:
        """Return what was taken, when something has come; None when it is there, and was not taken.

        When nothing came in a while, it goes on waiting, and nothing is returned.
        """
        handed, taken = self._answer(key)
        if isinstance(handed, Exception) or isinstance(taken, Exception):  # the script was forgotten there, mostly
            self._drop(key)
            return None
        if not taken:
            self._arm(key)
        return taken  # type: ignore[no-any-return]

    def _answer(self, key: str) -> tuple[Any, Any]:
        waiter = self._waiters[key]
        found = waiter.link.read(), waiter.link.read()
        waiter.tags = range(0)
        return found

    def stop(self) -> list[bytes]:
        """Wait no more; returns what was taken in the last moment."""
        waiting = {key: waiter for key, waiter in self._waiters.items() if waiter.link.owed}
        found: list[bytes] = []
        if not waiting:
            return found
        try:
            self._server.replies([("CLIENT", "UNBLOCK", waiter.number) for waiter in waiting.values()])
        except ServerLost:
            self.lose()
            return found
        for key, waiter in waiting.items():
            try:
                if waiter.link.ahead or ready([waiter.link.fileno()], _LAST):
                    taken = self._answer(key)[1]
                    found += taken if isinstance(taken, list) else ()
                    continue
            except (ServerLost, OSError):
                pass
            self._drop(key)
        return found

    def lose(self) -> None:
        """Let go of every connection that waits: nobody knows what becomes of it."""
        for key in [key for key, waiter in self._waiters.items() if waiter.link.owed]:
            self._drop(key)

    def _drop(self, key: str) -> None:
        waiter = self._waiters.pop(key)
        waiter.link.close()
        if waiter.link.owed:
            self._ghosts.append((waiter.number, waiter.address))
            if waiter.tags:
                self.unsure.append(waiter.tags)

    def lay(self) -> None:
        """See to it that nothing is taken any more by connections that were let go of."""
        if self._ghosts:
            self._kill(self._ghosts)
            self._ghosts = []

    def _kill(self, ghosts: Iterable[tuple[str, str]]) -> None:
        # By both: after the server was restarted the number may be that of somebody else's.
        self._server.replies([("CLIENT", "KILL", "ID", number, "ADDR", address) for number, address in ghosts])

    def close(self) -> None:
        """Let go of all connections."""
        for key in list(self._waiters):
            self._drop(key)
        self.lay()
