"""Speed over a Redis: ``python -m benchmarks 'cluster-*'``.

One adapter a contender, as in `benchmarks.peers`: ``python -m benchmarks.cluster.NAME CASE SIZE`` starts two worker
processes, waits until both work, measures, and prints figures.  All of them use the Redis of `server.Redis`, which the
benchmark starts and empties before each measurement; those with a server of their own (dask, ray, ipyparallel) use
that, on this machine.
"""

#: How many worker processes each contender gets.
WORKERS = 2
