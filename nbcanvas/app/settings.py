"""Settings: Celery's names, Celery's defaults where they make sense in a notebook.

An unknown name is refused with a suggestion.  Names that only matter to brokers and workers of a cluster are
accepted here, so that one configuration serves both.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from nbcanvas.errors import UnknownSetting
from nbcanvas.servers.urls import masked

from .secret import Hidden

__all__ = ["DEFAULTS", "Settings", "TaskDefaults", "ignores_result", "settings_in"]

DAY: Final = 24 * 60 * 60

#: Setting name -> default (Celery's guide, "Configuration and defaults").
DEFAULTS: Final[dict[str, Any]] = {
    # tasks
    "task_always_eager": False,
    "task_eager_propagates": False,
    "task_store_eager_result": False,
    "task_ignore_result": False,
    "task_store_errors_even_if_ignored": False,
    "task_track_started": False,
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": True,
    "task_acks_on_failure": None,
    "task_acks_on_timeout": None,
    "task_reject_on_worker_lost": None,
    "task_retry_on_worker_lost": False,
    "task_time_limit": None,
    "task_soft_time_limit": None,
    "task_default_rate_limit": None,
    "task_default_priority": None,
    "task_inherit_parent_priority": False,
    "task_default_queue": "celery",
    "task_default_exchange": None,
    "task_default_exchange_type": "direct",
    "task_default_routing_key": None,
    "task_queues": None,
    "task_routes": None,
    "task_queue_max_priority": None,
    "task_create_missing_queues": True,
    "task_create_missing_queue_type": "classic",
    "task_create_missing_queue_exchange_type": None,
    "task_default_queue_type": "classic",
    "task_repr_maxlevels": 3,
    "task_default_delivery_mode": 2,
    "task_serializer": "json",
    "task_compression": None,
    "task_protocol": 2,
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
    "task_remote_tracebacks": False,
    "task_send_sent_event": False,
    "task_allow_error_cb_on_chord_header": False,
    "task_annotations": None,
    # results
    "result_backend": None,
    "result_backend_transport_options": {},
    "result_serializer": "json",
    "result_accept_content": None,
    "result_compression": None,
    "result_extended": True,
    "result_expires": DAY,
    "result_failure_expires": None,
    "result_chord_expires": None,
    "result_chord_join_timeout": 3.0,
    "result_chord_retry_interval": 1.0,
    "result_cache_max": -1,
    "result_persistent": None,
    "result_exchange": "celeryresults",
    "result_exchange_type": "direct",
    "result_backend_always_retry": False,
    "result_backend_max_retries": float("inf"),
    "result_backend_base_sleep_between_retries_ms": 10,
    "result_backend_max_sleep_between_retries_ms": 10_000,
    # broker
    "broker_url": None,
    "broker_read_url": None,
    "broker_write_url": None,
    "broker_transport": None,
    "broker_transport_options": {},
    "broker_use_ssl": False,
    "broker_pool_limit": 10,
    "broker_connection_timeout": 4,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": None,
    "broker_connection_max_retries": 100,
    "broker_heartbeat": 120,
    "broker_heartbeat_checkrate": 3.0,
    "broker_failover_strategy": None,
    "broker_login_method": None,
    "broker_host": None,
    "broker_port": None,
    "broker_user": None,
    "broker_password": None,
    "broker_vhost": None,
    "broker_pool_acquire_timeout": None,
    "broker_channel_error_retry": False,
    "broker_native_delayed_delivery_queue_type": "quorum",
    "redis_backend_use_ssl": None,
    "redis_max_connections": None,
    "redis_socket_timeout": 120.0,
    "redis_socket_connect_timeout": None,
    "redis_socket_keepalive": False,
    "redis_retry_on_timeout": False,
    "redis_backend_health_check_interval": None,
    "redis_host": None,
    "redis_port": None,
    "redis_db": None,
    "redis_username": None,
    "redis_password": None,
    "database_url": None,
    "database_engine_options": {"pool_pre_ping": True, "pool_recycle": 3600},
    "database_engine_callback": None,
    "database_create_tables_at_setup": True,
    "database_short_lived_sessions": False,
    "database_table_schemas": None,
    "database_table_names": None,
    **dict.fromkeys(
        (
            "arangodb_backend_settings",
            "cache_backend",
            "cassandra_auth_kwargs",
            "cassandra_auth_provider",
            "cassandra_bundle_path",
            "cassandra_entry_ttl",
            "cassandra_keyspace",
            "cassandra_port",
            "cassandra_read_consistency",
            "cassandra_servers",
            "cassandra_table",
            "cassandra_write_consistency",
            "couchbase_backend_settings",
            "elasticsearch_max_retries",
            "elasticsearch_retry_on_timeout",
            "elasticsearch_timeout",
            "gcs_bucket",
            "gcs_project",
            "mongodb_backend_settings",
            "s3_access_key_id",
            "s3_base_path",
            "s3_bucket",
            "s3_endpoint_url",
            "s3_region",
            "s3_secret_access_key",
        )
    ),
    "cache_backend_options": {},
    "cassandra_options": {},
    "elasticsearch_save_meta_as_text": True,
    "gcs_base_path": "",
    "gcs_ttl": 0,
    "azureblockblob_base_path": "",
    "azureblockblob_connection_timeout": 20,
    "azureblockblob_container_name": "celery",
    "azureblockblob_read_timeout": 120,
    "azureblockblob_retry_increment_base": 2,
    "azureblockblob_retry_initial_backoff_sec": 2,
    "azureblockblob_retry_max_attempts": 3,
    "cosmosdbsql_collection_name": "celerycol",
    "cosmosdbsql_consistency_level": "Session",
    "cosmosdbsql_database_name": "celerydb",
    "cosmosdbsql_max_retry_attempts": 9,
    "cosmosdbsql_max_retry_wait_time": 30,
    # workers
    "worker_concurrency": None,
    "worker_pool": "threads",
    "worker_prefetch_multiplier": 4,
    "worker_max_tasks_per_child": None,
    "worker_max_memory_per_child": None,
    "worker_lost_wait": 10.0,
    "worker_disable_rate_limits": False,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_redirect_stdouts_level": "WARNING",
    "worker_enable_remote_control": True,
    "worker_proc_alive_timeout": 4.0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_deduplicate_successful_tasks": False,
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_soft_shutdown_timeout": 0.0,
    "worker_state_db": None,
    "worker_timer": None,
    "worker_timer_precision": 1.0,
    "worker_agent": None,
    "worker_autoscaler": None,
    "worker_consumer": None,
    "worker_detect_quorum_queues": True,
    "worker_direct": False,
    "worker_disable_prefetch": False,
    "worker_enable_prefetch_count_reduction": True,
    "worker_eta_task_limit": None,
    "worker_log_color": None,
    "worker_log_datefmt": None,
    "worker_log_format": None,
    "worker_task_log_datefmt": None,
    "worker_task_log_format": None,
    "worker_pool_putlocks": True,
    "worker_pool_restarts": False,
    "worker_pool_start_method": None,
    "event_queue_durable": False,
    "event_queue_exclusive": True,
    "event_queue_expires": 60.0,
    "event_queue_ttl": 5.0,
    "event_queue_prefix": "celeryev",
    "event_exchange": "celeryev",
    "event_serializer": "json",
    "control_exchange": "celery",
    "control_queue_durable": False,
    "control_queue_exclusive": True,
    "control_queue_ttl": 300.0,
    "control_queue_expires": 10.0,
    # everything else
    "accept_content": ["json"],
    "enable_utc": True,
    "timezone": None,
    "imports": (),
    "include": (),
    "security_key": None,
    "security_key_password": None,
    "security_certificate": None,
    "security_cert_store": None,
    "security_digest": "sha256",
    "beat_schedule": {},
    "beat_schedule_filename": "celerybeat-schedule",
    "beat_scheduler": None,
    "beat_max_loop_interval": 0,
    "beat_sync_every": 0,
    "beat_cron_starting_deadline": None,
    "beat_enable_remote_control": False,
    "beat_remote_control_max_tick_age": None,
}

#: Settings whose value may hold a password anywhere in it.
SECRET: Final = frozenset(
    {
        "broker_url",
        "broker_read_url",
        "broker_write_url",
        "result_backend",
        "database_url",
        "cache_backend",
        "security_key",
    }
)
#: Those that are URLs: all but their passwords may be seen.
_URLS: Final = SECRET - {"security_key"}
#: The same said by a name: of a setting, or of a key inside one.
_SECRET_NAME: Final = re.compile(r"pass|secret|token|credential|auth|access_key|(?<!prefix_)api_?key", re.IGNORECASE)
_MASK: Final = "********"


class Settings(MutableMapping[str, Any]):
    """The settings of one app, by attribute or by key.

    Parameters
    ----------
    values
        Settings that differ from the defaults.

    Raises
    ------
    UnknownSetting
        For a name that is not a setting, with the nearest one that is.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_values", {})
        object.__setattr__(self, "_changed", lambda: None)
        self.update(values or {})

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` now, and after each change from now on."""
        object.__setattr__(self, "_changed", changed)
        changed()

    _values: dict[str, Any]
    _changed: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise unknown(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, name: str) -> Any:
        values = self._values
        return values[name] if name in values else DEFAULTS[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in DEFAULTS:
            raise unknown(name)
        self._values[name] = _hidden(name, value)
        self._changed()

    def __delitem__(self, name: str) -> None:
        self._values.pop(name, None)
        self._changed()

    @property
    def given(self) -> Mapping[str, Any]:
        """The settings that were given a value; passwords are among them."""
        return self._values

    def clear(self) -> None:
        """Take every setting back to its default."""
        self._values.clear()
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(DEFAULTS)

    def __len__(self) -> int:
        return len(DEFAULTS)

    def __contains__(self, name: object) -> bool:
        return name in DEFAULTS

    def __dir__(self) -> list[str]:
        return sorted(DEFAULTS)

    def table(self, with_defaults: bool = False) -> dict[str, Any]:
        """Return the settings that were given a value, or all, without what may be secret in them."""
        values = {**DEFAULTS, **self._values} if with_defaults else self._values
        return {name: _masked(name, value) for name, value in values.items()}

    def __repr__(self) -> str:
        return f"<Settings {self.table()}>"

    def __reduce__(self) -> Any:
        # Settings hold passwords; a pickled app or result names its app instead of carrying them.
        msg = "settings do not travel: they may hold passwords"
        raise TypeError(msg)


def _masked(name: Any, value: Any) -> Any:
    """Return a setting's value without what may be secret in it."""
    if not value or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(key, inner) for key, inner in value.items()}
    url = name in _URLS and (not isinstance(value, str) or "://" in value)
    if not url and (name in SECRET or _SECRET_NAME.search(str(name))):
        return _MASK
    if isinstance(value, list | tuple):
        return [_masked(name, inner) for inner in value]
    if url:
        return masked(str.__str__(value)) if isinstance(value, str) else _MASK
    return re.sub(r"//[^/]*@", f"//{_MASK}@", value) if isinstance(value, str) else value


def _hidden(name: Any, value: Any) -> Any:
    """Return a setting's value, so that what may be secret in it is masked wherever it is printed by accident."""
    if isinstance(value, str) and type(value) is not Hidden:
        return Hidden(value) if name in SECRET or _SECRET_NAME.search(str(name)) else value
    if type(value) is dict:
        return {key: _hidden(key, inner) for key, inner in value.items()}
    return type(value)(_hidden(name, inner) for inner in value) if type(value) in {list, tuple} else value


def unknown(name: str) -> UnknownSetting:
    """Return the error for a name that is not a setting."""
    near = difflib.get_close_matches(str(name).lower(), DEFAULTS, 1, 0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "; see nbcanvas.App().conf for the names"
    return UnknownSetting(f"{name!r} is not a setting{hint}")


class TaskDefaults(NamedTuple):
    """The settings every execution of a task looks at, read once for each change of the settings."""

    rate_limit: Any
    track_started: bool
    ignore_result: bool
    time_limit: float | None
    soft_time_limit: float | None

    @classmethod
    def of(cls, conf: Settings) -> TaskDefaults:
        """Read them."""
        return cls(
            None if conf.worker_disable_rate_limits else conf.task_default_rate_limit,
            bool(conf.task_track_started),
            bool(conf.task_ignore_result),
            conf.task_time_limit,
            conf.task_soft_time_limit,
        )


def ignores_result(task: Any, options: Mapping[str, Any], defaults: TaskDefaults) -> bool:
    """Whether the value of one execution is not kept: its options, then its task, then the settings decide."""
    ignored = options.get("ignore_result") if options else None
    if ignored is None and task is not None:
        ignored = task.ignore_result
    return bool(defaults.ignore_result if ignored is None else ignored)


def settings_in(obj: Any, namespace: str | None = None) -> dict[str, Any]:
    """Return the settings in a mapping, an object, or a module that is given by name (``config_from_object``).

    Parameters
    ----------
    obj
        Where they are; ``"module:attribute"`` is an attribute of a module.
    namespace
        Take names that start with it and an underscore only, without that (``CELERY`` -> ``CELERY_TASK_ROUTES``).

    Raises
    ------
    ImportError
        When the module cannot be imported.
    """
    if isinstance(obj, str):
        module, _, attribute = obj.partition(":")
        obj = importlib.import_module(module)
        obj = getattr(obj, attribute) if attribute else obj
    found = (
        dict(obj)
        if isinstance(obj, Mapping)
        else {
            name: value
            for name in dir(obj)
            if not name.startswith("_")
            for value in (getattr(obj, name),)
            # What a module imports or defines beside its settings is none; a route may be a function.
            if name.lower() in DEFAULTS or not (inspect.ismodule(value) or callable(value))
        }
    )
    if not namespace:
        return found
    prefix = f"{namespace.lower()}_"
    return {
        name.lower().removeprefix(prefix): value for name, value in found.items() if name.lower().startswith(prefix)
    }
