"""Result handles: ask for a state, wait for a value (Celery's guide: "Result API", "Group Results", "Graphs").

A handle holds an id and where to ask; it can be made from the id alone, at any time.
"""

from .bound import bound_to
from .eager import EagerResult
from .graph import DependencyGraph
from .joining import allow_join_result
from .latch import Latch
from .several import GroupResult, ResultSet, is_wanting
from .single import AsyncResult
from .trees import result_from_tuple, result_of

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "EagerResult",
    "GroupResult",
    "Latch",
    "ResultSet",
    "allow_join_result",
    "bound_to",
    "is_wanting",
    "result_from_tuple",
    "result_of",
]
