"""The bare interpreter: what every process costs before anything is imported."""

from __future__ import annotations

from benchmarks.meters import import_times, serve

if __name__ == "__main__":
    serve(None, "`python -c pass`", {"import": import_times("pass")})
