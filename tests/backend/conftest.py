"""The backends there are: each test of the contract runs on all of them."""

from __future__ import annotations

import pytest

from nbcanvas.backend.database import DatabaseBackend
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.local import LocalBackend
from nbcanvas.backend.redis import RedisBackend
from nbcanvas.servers.redis import RedisServer

ADAPTERS = {
    "local": lambda file: LocalBackend(lambda: 3600),
    "sqlite": lambda file: DatabaseBackend(f"sqlite:///{file}", expires=lambda: 3600),
    "sqlite, pickled": lambda file: DatabaseBackend(
        f"sqlite:///{file}", encoding=Encoding("pickle", ["pickle"]), expires=lambda: 3600
    ),
}


@pytest.fixture
def file(tmp_path):
    """Return where a database may be."""
    return tmp_path / "results.sqlite"


REDIS = {
    "redis": {},
    "redis, pickled": {"encoding": Encoding("pickle", ["pickle"])},
    "redis, extended": {"extended": True},
}


@pytest.fixture(params=[*ADAPTERS, *(pytest.param(name, marks=pytest.mark.servers) for name in REDIS)])
def backend(request, file):
    """Return a fresh backend."""
    if request.param in REDIS:
        server = RedisServer(request.getfixturevalue("redis_url"))
        made = RedisBackend(server, client_id="me", **REDIS[request.param])
    else:
        made = ADAPTERS[request.param](file)
    yield made
    made.flush(60)
    if hasattr(made, "close"):
        made.close()


@pytest.fixture(params=ADAPTERS)
def sweeping(request, file):
    """Return a fresh backend that drops what has expired when it is told to; Redis does so by itself."""
    made = ADAPTERS[request.param](file)
    yield made
    if hasattr(made, "close"):
        made.close()


@pytest.fixture
def database(file):
    """Return a database backend."""
    made = DatabaseBackend(f"sqlite:///{file}", expires=lambda: 3600)
    yield made
    made.close()


@pytest.fixture
def open_again(file):
    """Return what opens the same file as another process would see it."""
    made = []

    def opened(**settings):
        made.append(DatabaseBackend(f"sqlite:///{file}", **settings))
        return made[-1]

    yield opened
    for one in made:
        one.close()
