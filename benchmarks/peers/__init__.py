"""One adapter a contender: ``python -m benchmarks.peers.NAME CASE SIZE`` prints its figures as JSON.

Thread pools have four threads each, as many as the embedded worker of nbcanvas on two cores.
"""

THREADS = 4
PROCESSES = 2
