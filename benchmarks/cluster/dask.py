"""dask distributed, two worker processes of one thread; no Redis."""

from __future__ import annotations

from distributed import LocalCluster

from benchmarks.meters import serve
from benchmarks.peers.dask import Adapter

from . import WORKERS

if __name__ == "__main__":
    here = Adapter(
        lambda: LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None)
    )
    serve(
        "distributed",
        f"LocalCluster, {WORKERS} processes of one thread, its own scheduler",
        {
            "cluster-group": here.group,
            "cluster-small": here.group,
            "cluster-roundtrip": here.roundtrip,
            "cluster-chain": here.chain,
            "cluster-chord": here.chord,
        },
    )
