"""What a view of a run is: one picture as text, as html that stays, and as svg; shown, or written to a file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

from . import page

__all__ = ["Graph", "Picture"]


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A still picture.  Two are equal when they show the same.

    Attributes
    ----------
    text
        It in words and characters; its str and repr.
    html
        It as html that every notebook front end shows, also one that does not trust the notebook.
    svg
        It as an svg document.
    alt
        What it shows, in a sentence or two.
    title
        What it is called.
    """

    text: str
    html: str
    svg: str
    alt: str
    title: str = "Picture"

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        found = {"text/plain": self.text, "text/html": self.html}
        return {
            mime: data
            for mime, data in found.items()
            if (include is None or mime in include) and mime not in (exclude or ())
        }

    @overload
    def to_svg(self, path: None = None) -> str: ...
    @overload
    def to_svg(self, path: str | PathLike[str]) -> None: ...
    def to_svg(self, path: str | PathLike[str] | None = None) -> str | None:
        """Return the picture as an svg document, or write it to the file `path`."""
        return _to(path, self.svg)

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | PathLike[str]) -> None: ...
    def to_html(self, path: str | PathLike[str] | None = None) -> str | None:
        """Return the picture as an html page that needs nothing else, or write it to the file `path`."""
        return _to(path, page.page(self.title, f"<h1>{page.text(self.title)}</h1>{self.html}"))


@dataclass(frozen=True, slots=True, repr=False)
class Graph(Picture):
    """The picture of a canvas.

    Attributes
    ----------
    dot, mermaid
        Make the text of it in Graphviz' and in Mermaid's language.
    """

    dot: Callable[[], str] = field(default=str, compare=False)
    mermaid: Callable[[], str] = field(default=str, compare=False)

    @overload
    def to_dot(self, path: None = None) -> str: ...
    @overload
    def to_dot(self, path: str | PathLike[str]) -> None: ...
    def to_dot(self, path: str | PathLike[str] | None = None) -> str | None:
        """Return the graph in Graphviz' language, or write it to the file `path`; big groups stay folded."""
        return _to(path, self.dot())

    @overload
    def to_mermaid(self, path: None = None) -> str: ...
    @overload
    def to_mermaid(self, path: str | PathLike[str]) -> None: ...
    def to_mermaid(self, path: str | PathLike[str] | None = None) -> str | None:
        """Return the graph in Mermaid's language, or write it to the file `path`; big groups stay folded."""
        return _to(path, self.mermaid())


def _to(path: str | PathLike[str] | None, text: str) -> str | None:
    if path is None:
        return text
    write(path, text)
    return None


def write(path: str | PathLike[str], text: str) -> None:
    """Write a text to a file, in UTF-8.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        When there is no such folder, or when `path` is one: each says so, and what to do.
    """
    file = Path(fspath(path)).expanduser()
    if file.is_dir():
        msg = f"cannot write to {str(file)!r}: it is a folder; give a file in it"
        raise IsADirectoryError(msg)
    if not file.parent.is_dir():
        msg = f"cannot write {file.name!r}: the folder {str(file.parent)!r} does not exist; make it first"
        raise FileNotFoundError(msg)
    file.write_text(text, encoding="utf-8", newline="\n")
