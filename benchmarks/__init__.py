"""Speed, side by side with peers, in one run: ``python -m benchmarks [names] [--quick] [--no-peers] [--peer NAME]``.

Cases that begin with ``cluster-`` are work over a Redis, which the benchmark starts (`benchmarks.cluster`); the others
are work inside one process (`benchmarks.peers`).

Every measurement is a process of its own (``python -m benchmarks.peers.NAME CASE SIZE``), which prints JSON and is
ended after a while.  A peer that fails or hangs is a row in the table and holds up nothing.  The repetitions of ours
and of the peers take turns, so that what else the machine does meets all of them.
"""
