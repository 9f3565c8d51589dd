"""Where a cluster is, by name: ``[tool.nbcanvas.profiles]``, environment variables, or a URL.

::

    [tool.nbcanvas.profiles.staging]
    broker = "rediss://worker@redis.example:6379/0"
    password_env = "STAGING_PASSWORD"           # or ${STAGING_PASSWORD} anywhere in a text
    backend = "db+postgresql://results@db.example/results"
    backend_password_env = "RESULTS_PASSWORD"
    tls = { ca = "ca.pem" }                     # cert, key, verify = "required" | "optional" | "none"
    settings = { task_default_queue = "hipri" } # Celery's names
    signing_key_file = "~/.config/nbcanvas.key" # for tasks shipped by value, with ship = true
"""

from __future__ import annotations

import difflib
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote

from nbcanvas.backend.urls import is_file, resolved
from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.servers.urls import canonical_host, masked

from .secret import Hidden
from .settings import DEFAULTS, unknown

__all__ = ["DEFAULT", "Target", "profiles", "target"]

#: The profile that is meant when nothing is named.
DEFAULT: Final = "default"

_KEYS: Final = frozenset(
    {
        "backend",
        "backend_password_env",
        "broker",
        "password_env",
        "settings",
        "ship",
        "signing_key_file",
        "tls",
    }
)
_TLS: Final = {"ca": "ca_certs", "cert": "certfile", "key": "keyfile"}
_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_BROKERS: Final = ("NBCANVAS_BROKER_URL", "CELERY_BROKER_URL")
_BACKENDS: Final = ("NBCANVAS_RESULT_BACKEND", "CELERY_RESULT_BACKEND")
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_USERINFO: Final = re.compile(r"^([A-Za-z][\w+.-]*://)(?:([^/@]*)@)?(.*)$", re.DOTALL)
_LOOPBACK: Final = re.compile(r"127(\.\d{1,3}){3}")


class Target:
    """What to connect to.

    Attributes
    ----------
    name
        The profile's; None for a URL.
    broker, backend
        URLs; `backend` may be None: what fits the broker.
    settings
        Further settings by Celery's names.
    ship
        Whether tasks defined in cells are sent by value.
    signing_key_file
        The file of the key they are signed with; None for the environment's.
    typed
        Whether a password stands in the URL somebody wrote.
    """

    __slots__ = ("backend", "broker", "name", "settings", "ship", "signing_key_file", "typed")

    def __init__(
        self,
        name: str | None,
        broker: str,
        backend: str | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        ship: bool = False,
        signing_key_file: str | None = None,
        typed: bool = False,
    ) -> None:
        self.name = name
        self.broker = Hidden(broker)
        self.backend = None if backend is None else Hidden(backend)
        self.settings = dict(settings or {})
        self.ship = ship
        self.signing_key_file = signing_key_file
        self.typed = typed

    def conf(self) -> dict[str, Any]:
        """Return all of it as settings."""
        return {**self.settings, "broker_url": self.broker, "result_backend": self.backend}

    def __repr__(self) -> str:
        where = f"{masked(self.broker)}" + (f" and {masked(self.backend)}" if self.backend else "")
        return f"<Target {self.name or 'url'}: {where}>"


def profiles(start: Path | None = None) -> tuple[Path | None, Mapping[str, Mapping[str, Any]]]:
    """Return the nearest pyproject.toml, upwards, that has profiles, and those.

    Raises
    ------
    ImproperlyConfigured
        When a file cannot be read, or what it has are no tables.
    """
    start = start or Path.cwd()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            found = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("nbcanvas", {}).get("profiles")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ImproperlyConfigured(f"{file}: {error}") from None
        if found is None:
            continue
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise ImproperlyConfigured(f"{file}: [tool.nbcanvas.profiles.NAME] are tables with a broker each")
        return file, found
    return None, {}


def target(
    given: str | None = None,
    backend: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Target:
    """Return what a URL, a profile's name, or nothing means.

    Parameters
    ----------
    given
        A URL, or a profile's name.  None: what the environment says (``NBCANVAS_BROKER_URL``, ``CELERY_BROKER_URL``),
        else the profile ``default``.
    backend
        The URL of the result backend, in place of what the profile or the environment says.
    environ
        The environment; the process's by default.
    start
        Where to look upwards from for a pyproject.toml; the working directory by default.

    Raises
    ------
    ImproperlyConfigured
        When nothing is meant, or it cannot be understood; no password is in the text.
    """
    environ = os.environ if environ is None else environ
    reader = _Reader("", environ)
    if given is None:
        name = next((one for one in _BROKERS if environ.get(one)), None)
        if name is not None:
            found = backend or next((environ[one] for one in _BACKENDS if environ.get(one)), None)
            return Target(None, _checked(name, environ[name]), found)
    elif "://" in given:
        url = reader.text("broker", given)
        results = reader.text("backend", backend) if backend else None
        typed = any(masked(one) != one and not _VARIABLE.search(one) for one in (given, backend) if one)
        return Target(None, _checked("broker", url), results, typed=typed)
    elif re.search(r"[@:/]", given):
        _refuse("what was given", given)
    file, known = profiles(start)
    wanted = DEFAULT if given is None else given
    if wanted not in known:
        raise ImproperlyConfigured(_no_profile(given, file, known))
    return _of(wanted, known[wanted], file, environ, backend)


def _no_profile(given: str | None, file: Path | None, known: Mapping[str, Any]) -> str:
    where = "no pyproject.toml from here upwards has [tool.nbcanvas.profiles]" if file is None else f"{file} has none"
    if given is None:
        return (
            f"connect to what? Give a URL (redis://host:6379/0, amqp://host//) or the name of a profile; without "
            f"either, {_BROKERS[0]} or a profile called {DEFAULT!r} is meant, and "
            + (where if not known else f"{file} has only {', '.join(known)}")
        )
    near = difflib.get_close_matches(given, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
    return f"no profile {given!r:.80}: {where if not known else f'{file} does not have it'}{hint}"


def _of(
    name: str, profile: Mapping[str, Any], file: Path | None, environ: Mapping[str, str], backend: str | None
) -> Target:
    where = f"{file}: profile {name!r}"
    folder = (file or Path()).parent
    reader = _Reader(where, environ)
    for key in profile:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(_KEYS))}"
            raise ImproperlyConfigured(f"{where}: unknown key {key!r}; {hint}")
    if not isinstance(profile.get("broker"), str):
        raise ImproperlyConfigured(f'{where} names no broker, such as broker = "redis://host:6379/0"')
    broker = _checked(f"{where}: broker", reader.text("broker", profile["broker"]))
    broker = reader.with_password(broker, profile.get("password_env"), "password_env")
    results: str | None = None
    if backend or "backend" in profile:
        results = reader.text("backend", backend or profile["backend"])
        if is_file(results):
            results = resolved(results, None, folder)
        results = reader.with_password(results, profile.get("backend_password_env"), "backend_password_env")
    settings = reader.settings(profile.get("settings", {}))
    settings |= _tls(where, profile["tls"], broker, results or broker, folder) if "tls" in profile else {}
    signing = profile.get("signing_key_file")
    return Target(
        name,
        broker,
        results,
        settings,
        ship=bool(profile.get("ship", False)),
        signing_key_file=None if signing is None else str(_path(reader.text("signing_key_file", signing), folder)),
        typed=any(
            isinstance(one, str) and masked(one) != one and not _VARIABLE.search(one) for one in profile.values()
        ),
    )


class _Reader:
    """Reads texts in which ``${NAME}`` stands for an environment variable."""

    def __init__(self, where: str, environ: Mapping[str, str]) -> None:
        self._where = f"{where}: " if where else ""
        self._environ = environ

    def text(self, what: str, text: Any) -> str:
        if not isinstance(text, str):
            raise ImproperlyConfigured(f"{self._where}{what} is a text, and not {type(text).__name__}")
        return _VARIABLE.sub(lambda found: self._variable(what, found[1]), text)

    def _variable(self, what: str, name: str) -> str:
        value = self._environ.get(name)
        if not value:
            raise ImproperlyConfigured(f"{self._where}{what} needs the environment variable {name}, and it is not set")
        # A password in a URL may have any character; what is a whole URL, or part of one already quoted, has its own.
        return value if "://" in value or what not in {"broker", "backend"} else quote(value, safe="%")

    def with_password(self, url: str, variable: Any, key: str) -> str:
        if variable is None:
            return url
        password = quote(self._environ.get(self.text(key, variable), ""), safe="")
        if not password:
            raise ImproperlyConfigured(f"{self._where}{key} names {variable!r}, and that variable is not set")
        found = _USERINFO.match(url)
        if found is None:
            _refuse(f"{self._where}the URL", url)
        scheme, user, rest = found.groups()
        return f"{scheme}{(user or '').partition(':')[0]}:{password}@{rest}"

    def settings(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise ImproperlyConfigured(f"{self._where}settings is a table with Celery's names")
        for name in given:
            if name not in DEFAULTS:
                raise ImproperlyConfigured(f"{self._where}settings: {unknown(name)}")
        return {name: self._inside(name, value) for name, value in given.items()}

    def _inside(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(name, value)
        if isinstance(value, Mapping):
            return {key: self._inside(name, one) for key, one in value.items()}
        return [self._inside(name, one) for one in value] if isinstance(value, list) else value


def _checked(what: str, url: str) -> str:
    """Return a URL that may be one."""
    if _USERINFO.match(url) is None:
        _refuse(what, url)
    return url


def _refuse(what: str, url: str) -> NoReturn:
    # What stands there may be the password alone: none of it is repeated.
    raise ImproperlyConfigured(
        f"{what} is not a URL ({len(url)} characters, no scheme://): redis://host:6379/0 and amqp://host// are"
    )


def _path(name: str, folder: Path) -> Path:
    return folder / Path(name).expanduser()


def _tls(where: str, given: Any, broker: str, backend: str, folder: Path) -> dict[str, Any]:
    """Return ``broker_use_ssl`` and ``redis_backend_use_ssl``."""
    keys = (*_TLS, "verify")
    if (
        not isinstance(given, Mapping)
        or not set(given) <= set(keys)
        or not all(isinstance(v, str) for v in given.values())
    ):
        raise ImproperlyConfigured(f"{where}: tls is a table of texts with {', '.join(keys)}")
    verify = given.get("verify", "required")
    if verify not in _VERIFY:
        raise ImproperlyConfigured(f"{where}: tls.verify is one of {', '.join(_VERIFY)}, and not {verify!r:.40}")
    plain: dict[str, Any] = {"cert_reqs": _VERIFY[verify]}
    for key, name in _TLS.items():
        if key in given:
            file = _path(given[key], folder)
            if not file.is_file():
                raise ImproperlyConfigured(f"{where}: tls.{key} names {file}, and there is no such file")
            plain[name] = str(file)
    redis = {f"ssl_{key}": value for key, value in plain.items()}
    found: dict[str, Any] = {"broker_use_ssl": redis if broker.startswith("redis") else plain}
    if backend.startswith("redis"):
        found["redis_backend_use_ssl"] = redis
    return found


def is_loopback(url: str) -> bool:
    """Whether a URL means this machine, or a socket of it."""
    found = _USERINFO.match(url)
    if found is None or "socket" in found[1] or found[1].startswith("unix"):
        return True
    host = found[3].partition("/")[0]
    host = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return canonical_host(host) == "localhost" or _LOOPBACK.fullmatch(host) is not None


def has_password(url: str) -> bool:
    """Whether a URL carries a password."""
    return masked(url) != url
