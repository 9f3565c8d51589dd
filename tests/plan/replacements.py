"""Small canvases in which a task replaces itself, as recipes: what becomes of ids, links, errbacks and stamps."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["AS_CELERY", "AS_MEANT", "FAIL", "IN_PLACE", "OK"]

Recipe: TypeAlias = tuple[Any, ...]


def task(*do: Any) -> Recipe:
    return "task", do or ("ok",), 0, False


OK, FAIL, HEARD = task(), task("fail"), ("heard",)


def replaced(by: Recipe) -> Recipe:
    return task("replace", by)


#: To draw from: what a task may put in its place anywhere, in Celery too. (A chord that fails there, with steps behind
#: it, Celery's worker never ends, and tells nobody: neither its client nor ours can know.)
IN_PLACE: list[Recipe] = [
    OK,
    FAIL,
    ("chain", [OK, OK]),
    ("chain", [OK, FAIL]),
    ("group", [OK, OK]),
    ("chain", [OK, ("group", [OK, OK])]),
    ("chord", [OK, OK], OK),
    ("link", OK, OK),
    ("map", 2, False),
]
#: What Celery makes of these is their meaning.
AS_CELERY: dict[str, Recipe] = {
    "by a failing task": ("link_error", replaced(FAIL), HEARD),
    "twice, by a failing task": ("link_error", replaced(replaced(FAIL)), HEARD),
    "by a chain that fails at once": ("link_error", replaced(("chain", [FAIL, OK])), HEARD),
    "by a chain that fails at last": ("link_error", replaced(("chain", [OK, FAIL])), HEARD),
    "by a group that fails": ("link_error", replaced(("group", [OK, FAIL])), HEARD),
    "by a chord that fails": ("link_error", replaced(("chord", [OK, FAIL], OK)), HEARD),
    "by a chain with a group that fails": ("link_error", replaced(("chain", [OK, ("group", [OK, FAIL])])), HEARD),
    "by one that fails in the end": ("link_error", replaced(task("retry", 1, "fail")), HEARD),
    "by one with an errback": ("link_error", replaced(("link_error", FAIL, HEARD)), HEARD),
    "by one with a task as errback": ("link_error", replaced(("link_error", FAIL, OK)), OK),
    "a failing step of a chain": ("link_error", ("chain", [OK, replaced(FAIL), OK]), HEARD),
    "a link": ("link", replaced(OK), OK),
    "a link behind a group": ("link", replaced(("chain", [OK, ("group", [OK, OK])])), OK),
    "a link behind a map": ("link", replaced(("map", 2, False)), OK),
    "by one with a link": ("chain", [replaced(("link", OK, ("link", OK, OK))), OK]),
    "a link on a map": ("chain", [replaced(("set link", ("map", 1, False), OK)), OK]),
    "a member of a chord": ("chord", [replaced(("chain", [OK, OK])), replaced(("group", [OK, OK])), OK], OK),
}
#: A group with a chord in it.
DEEP: Recipe = ("group", [("chord", [replaced(("chain", [OK, OK]))], OK), OK])
#: Chunks and links to composites mean something to us; Celery has no value for them, or refuses them. Of a chord in a
#: group that ends a header's member it loses count; and where what is before such a group fails, it waits for ever.
AS_MEANT: dict[str, Recipe] = {
    "a link on chunks": replaced(("set link", ("chunks", 4, 1), OK)),
    "a link behind chunks": ("link", replaced(("chunks", 3, 2)), OK),
    "a link on a group": ("link", replaced(("set link", ("group", [OK, OK]), OK)), OK),
    "a chain as link, an errback in it": replaced(("link", OK, ("chain", [OK, ("link_error", FAIL, HEARD)]))),
    "in a group that a header's member ends in": ("chain", [OK, ("chord", [("chain", [replaced(OK), DEEP]), OK], OK)]),
    "in a group that a header's chord ends in": ("chain", [OK, ("chord", [("chord", [replaced(OK)], DEEP), OK], OK)]),
    "failing, in such a group": ("chain", [OK, ("chord", [("chord", [OK], ("group", [replaced(FAIL)])), OK], OK)]),
    "failing, before such a group": ("chord", [("chain", [replaced(FAIL), DEEP]), OK], OK),
    "in chunks' header": ("chain", [OK, ("chord", [("chunks", 3, 2), replaced(("group", [OK, OK]))], OK)]),
}
