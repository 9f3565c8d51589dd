"""``python -m benchmarks``: measure, print the table, keep it."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from .cases import CASES, SLOW, Case
from .contest import LIMIT, ROOT, Row, hold
from .table import markdown

_REPEATS, _QUICK_LIMIT = 5, 15.0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    names = sorted({case.name for case in CASES})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="nbcanvas beside its peers, in one run.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"what to measure, a name or a pattern such as 'cluster-*' (all): {', '.join(names)}",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, once each, without the slow peers: a minute")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--peer", action="append", metavar="NAME", help="ours and this peer (may be repeated)")
    parser.add_argument("--size", type=int, action="append", help="only cases of this size (may be repeated)")
    parser.add_argument("--repeat", type=int, metavar="N", help=f"processes a contender ({_REPEATS})")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help=f"time limit of one process ({LIMIT:.0f}, or what the case says)"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        default=ROOT / "build" / "bench.md",
        help="where to keep the table (build/bench.md)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep every single figure")
    options = parser.parse_args(argv)
    unknown = [pattern for pattern in options.names if not fnmatch.filter(names, pattern)]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(names)}")
    peers = {peer for case in CASES for peer in case.peers}
    strange = sorted(set(options.peer or ()) - peers)
    if strange:
        parser.error(f"there is no peer {', '.join(strange)}; choose from {', '.join(sorted(peers))}")
    return options


def _chosen(options: argparse.Namespace) -> Iterator[Case]:
    for case in CASES:
        if options.names and not any(fnmatch.fnmatch(case.name, pattern) for pattern in options.names):
            continue
        if options.size and case.size not in options.size:
            continue
        if case.asked and not options.size:
            continue
        if not options.quick:
            yield case
        elif case.quick_size is not None:
            yield replace(case, size=case.quick_size)


def _contenders(case: Case, options: argparse.Namespace) -> Sequence[str]:
    if options.no_peers:
        return (case.ours,)
    if options.peer:
        return (case.ours, *(peer for peer in case.peers if peer in options.peer))
    return (case.ours, *(peer for peer in case.peers if not (options.quick and peer in SLOW)))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 1 when one of ours came to nothing."""
    options = _options(argv)
    repeats = options.repeat or (1 if options.quick else _REPEATS)
    limit = options.limit or (_QUICK_LIMIT if options.quick else None)
    before = os.getloadavg()[0]
    rows: list[Row] = []
    servers: list[str] = []
    with ExitStack() as stack:
        clear: Callable[[], None] | None = None
        for case in _chosen(options):
            if case.room == "cluster" and clear is None:
                from .cluster.server import Redis

                redis = stack.enter_context(Redis())
                clear = redis.empty
                servers.append(f"Redis {redis.version}: {' '.join(each or repr(each) for each in redis.settings)}")
            rows.append(hold(case, _contenders(case, options), repeats, limit, _progress, clear or (lambda: None)))
    _progress("")
    report = markdown(rows, repeats=repeats, load=(before, os.getloadavg()[0]), servers=servers)
    print(report, end="")
    _keep(options.markdown, report)
    if options.json:
        _keep(options.json, json.dumps([asdict(row) for row in rows], indent=1))
    return int(any(row.entries[0].failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
