"""Tasks whose arguments are pydantic models (Celery's guide, "Argument validation with Pydantic")."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["validated"]


def validated(
    fun: Callable[..., Any], *, strict: bool = False, context: Any = None, dump_kwargs: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Return `fun` with arguments validated into the pydantic models they are annotated with.

    Parameters
    ----------
    fun
        A function; an argument annotated with a model (or an optional one) is given as a dict and arrives as one.
    strict, context
        Passed to ``model_validate``.
    dump_kwargs
        Passed to ``model_dump`` of a returned model; ``{"mode": "json"}`` by default.

    Raises
    ------
    ImportError
        When pydantic is not installed.
    """
    from pydantic import BaseModel

    hints = typing.get_type_hints(fun)
    signature = inspect.signature(fun)
    models = {name: model for name in signature.parameters if (model := _model(hints.get(name), BaseModel)) is not None}
    dump = {"mode": "json", **(dump_kwargs or {})}

    @functools.wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, model in models.items():
            value = bound.arguments.get(name)
            if value is not None and not isinstance(value, model):
                bound.arguments[name] = model.model_validate(value, strict=strict, context=context)
        result = fun(*bound.args, **bound.kwargs)
        return result.model_dump(**dump) if isinstance(result, BaseModel) else result

    return run


def _model(hint: Any, base: type) -> Any:
    """Return the model of an annotation ``M`` or ``M | None``, else None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        left = [option for option in typing.get_args(hint) if option is not type(None)]
        hint = left[0] if len(left) == 1 else None
    return hint if isinstance(hint, type) and issubclass(hint, base) else None
