"""The language: signatures and what is made of them. Plain data; see :mod:`.host` for what runs it."""

from __future__ import annotations

from .algebra import steps_of
from .composites import chain, chord, group, is_composite
from .host import Host, current_host, set_default_host
from .maps import chunks, xmap, xstarmap
from .pinning import pin
from .shape import children, kind_of, raw
from .signature import Signature, make, maybe_signature, signature
from .stamping import StampingVisitor, merged_stamps
from .trampoline import Walk, drive

__all__ = [
    "Host",
    "Signature",
    "StampingVisitor",
    "Walk",
    "chain",
    "children",
    "chord",
    "chunks",
    "current_host",
    "drive",
    "group",
    "is_composite",
    "kind_of",
    "make",
    "maybe_signature",
    "merged_stamps",
    "pin",
    "raw",
    "set_default_host",
    "signature",
    "steps_of",
    "xmap",
    "xstarmap",
]
