"""Which queues there are and how a message finds its way there, as the settings say it (Celery's guide, "Routing").

Plain values: what a queue is, is the same for every transport.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from nbcanvas.errors import ImproperlyConfigured

__all__ = ["Address", "QueueSpec", "Queues"]

_QUORUM: Final = {"x-queue-type": "quorum"}
_TYPES: Final = ("classic", "quorum")


class QueueSpec(NamedTuple):
    """What a queue is; the names are kombu's.

    Attributes
    ----------
    name
        Its name.
    exchange, exchange_type, routing_key
        What it is bound to; without a name of an exchange, to nothing.
    exchange_options
        More of the exchange: ``durable``, ``auto_delete``, ``arguments``, ``delivery_mode`` …
    durable, exclusive, auto_delete, queue_arguments
        See AMQP.
    options
        More of the queue: ``expires``, ``message_ttl``, ``max_length``, ``consumer_arguments`` …
    bindings
        More bindings: mappings with the keys ``exchange``, ``type``, ``routing_key``, ``arguments``.
    """

    name: str
    exchange: str = ""
    exchange_type: str = "direct"
    routing_key: str = ""
    exchange_options: Mapping[str, Any] = {}
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    queue_arguments: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = {}
    bindings: tuple[Mapping[str, Any], ...] = ()

    @property
    def quorum(self) -> bool:
        """Whether it is one of RabbitMQ's quorum queues."""
        return (self.queue_arguments or {}).get("x-queue-type") == "quorum"

    @property
    def delivery_mode(self) -> int | None:
        """How messages of its exchange are kept: 2 on disk, 1 in memory; None when nothing is said."""
        return self.exchange_options.get("delivery_mode")

    def described(self) -> dict[str, Any]:
        """Return it with the keys of Celery's ``inspect active_queues``."""
        exchange = {
            "name": self.exchange,
            "type": self.exchange_type,
            "arguments": None,
            "durable": True,
            "passive": False,
            "auto_delete": False,
            "delivery_mode": None,
            "no_declare": False,
        }
        return {
            "name": self.name,
            "exchange": exchange | dict(self.exchange_options),
            "routing_key": self.routing_key,
            "queue_arguments": None if self.queue_arguments is None else dict(self.queue_arguments),
            "durable": self.durable,
            "exclusive": self.exclusive,
            "auto_delete": self.auto_delete,
            "bindings": [dict(binding) for binding in self.bindings],
            **{name: self.options.get(name, default) for name, default in _OPTIONS.items()},
        }


#: What else a queue may say, and what it says when it does not.
_OPTIONS: Final[dict[str, Any]] = {
    "binding_arguments": None,
    "consumer_arguments": None,
    "no_ack": False,
    "alias": None,
    "no_declare": None,
    "expires": None,
    "message_ttl": None,
    "max_length": None,
    "max_length_bytes": None,
    "max_priority": None,
}


class Address(NamedTuple):
    """Where a message is published: the queue it is meant for ("" when only an exchange is known), and how."""

    queue: str
    exchange: str
    routing_key: str


class Queues(Mapping[str, QueueSpec]):
    """The queues of the settings; one that is asked for and unknown is made.

    Parameters
    ----------
    declared
        Celery's ``task_queues``: kombu's ``Queue`` objects, or a mapping of names to options.
    default, exchange, exchange_type, routing_key, default_type
        ``task_default_queue``, ``task_default_exchange``, ``…_exchange_type``, ``…_routing_key``, ``…_queue_type``.
    create, create_type, create_exchange_type
        ``task_create_missing_queues``, ``task_create_missing_queue_type``, ``…_queue_exchange_type``.
    max_priority
        ``task_queue_max_priority``.

    Attributes
    ----------
    default
        The name of the default queue.
    consumed
        The names of the queues that a worker takes from when it is not told otherwise.
    """

    def __init__(
        self,
        declared: Any = None,
        *,
        default: str = "celery",
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        default_type: str = "classic",
        create: bool = True,
        create_type: str | None = "classic",
        create_exchange_type: str | None = None,
        max_priority: int | None = None,
    ) -> None:
        self.default = default
        self._exchange, self._type = exchange or default, exchange_type
        self._routing_key = routing_key or default
        self._create = create
        self._create_type = _queue_type("task_create_missing_queue_type", create_type)
        self._create_exchange_type = create_exchange_type
        self._max_priority = max_priority
        self._specs: dict[str, QueueSpec] = {}
        self._aliases: dict[str, str] = {}
        if declared:
            for spec in _declared(declared):
                self._add(spec)
        else:
            quorum = _queue_type("task_default_queue_type", default_type) == "quorum"
            self._add(QueueSpec(default, queue_arguments=_QUORUM if quorum else None))
        self.consumed: tuple[str, ...] = tuple(self._specs)

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> Queues:
        """Return the queues that settings say."""
        return cls(
            conf["task_queues"],
            default=conf["task_default_queue"],
            exchange=conf["task_default_exchange"],
            exchange_type=conf["task_default_exchange_type"],
            routing_key=conf["task_default_routing_key"],
            default_type=conf["task_default_queue_type"],
            create=bool(conf["task_create_missing_queues"]),
            create_type=conf["task_create_missing_queue_type"],
            create_exchange_type=conf["task_create_missing_queue_exchange_type"],
            max_priority=conf["task_queue_max_priority"],
        )

    def _add(self, spec: QueueSpec) -> QueueSpec:
        """Take a queue, with the defaults of what it does not say."""
        if not spec.exchange and not spec.bindings:
            spec = spec._replace(exchange=self._exchange, exchange_type=self._type)
        if not spec.routing_key:
            spec = spec._replace(routing_key=self._routing_key)
        arguments = spec.queue_arguments or {}
        if self._max_priority is not None and "x-max-priority" not in arguments and not spec.quorum:
            spec = spec._replace(queue_arguments={**arguments, "x-max-priority": self._max_priority})
        self._specs[spec.name] = spec
        alias = spec.options.get("alias")
        if alias:
            self._aliases[str(alias)] = spec.name
        return spec

    def add(
        self,
        name: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> QueueSpec:
        """Add a queue as ``add_consumer`` describes one, unless it is known; returns what it is."""
        if name in self._specs and exchange is None:
            return self._specs[name]
        said = {"exchange": exchange, "exchange_type": exchange_type, "routing_key": routing_key}
        if any(said.values()) or options:
            given = {key: value for key, value in said.items() if value is not None}
            return self._add(_of_options(name, {"exchange": name, "routing_key": name, **given, **options}))
        return self._missing(name)

    def _missing(self, name: str) -> QueueSpec:
        quorum = self._create_type == "quorum"
        return self._add(
            QueueSpec(
                name, name, self._create_exchange_type or "direct", name, queue_arguments=_QUORUM if quorum else None
            )
        )

    def __getitem__(self, name: str) -> QueueSpec:
        """Return a queue; an unknown one is made.

        Raises
        ------
        ImproperlyConfigured
            When it is unknown and ``task_create_missing_queues`` is off.
        """
        spec = self._specs.get(self._aliases.get(name, name))
        if spec is not None:
            return spec
        if not self._create:
            known = ", ".join(sorted(self._specs))
            msg = f"there is no queue {name!r} in task_queues ({known}), and task_create_missing_queues is off"
            raise ImproperlyConfigured(msg)
        return self._missing(name)

    def __contains__(self, name: object) -> bool:
        return name in self._specs or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._specs))

    def __len__(self) -> int:
        return len(self._specs)

    def address(self, queue: str | None = None, exchange: str | None = None, routing_key: str | None = None) -> Address:
        """Say where a message goes by the options of its call.

        A direct exchange is left out: the message goes to its queue by the anonymous one.
        """
        if queue is None and exchange is not None:
            return Address("", exchange, routing_key or self._routing_key)
        spec = self[queue or self.default]
        if spec.exchange_type == "direct" and not (exchange and routing_key):
            return Address(spec.name, "", spec.name)
        return Address(spec.name, exchange or spec.exchange or self._exchange, routing_key or spec.routing_key)


def _queue_type(setting: str, value: str | None) -> str:
    found = value or "classic"
    if found not in _TYPES:
        msg = f"{setting} is 'classic' or 'quorum', not {value!r}"
        raise ImproperlyConfigured(msg)
    return found


def _declared(declared: Any) -> Iterable[QueueSpec]:
    if isinstance(declared, Mapping):
        for name, options in declared.items():
            yield _of_object(options) if hasattr(options, "routing_key") else _of_options(name, options or {})
        return
    for queue in declared:
        if isinstance(queue, str):
            yield QueueSpec(queue, queue, "direct", queue)
        elif hasattr(queue, "routing_key"):
            yield _of_object(queue)
        else:
            msg = f"task_queues: {queue!r:.80} is no queue; use kombu.Queue, or a mapping of names to options"
            raise ImproperlyConfigured(msg)


def _of_options(name: str, options: Any) -> QueueSpec:
    """Return a queue said as a mapping (Celery 3's form, kombu's ``Queue.from_dict``)."""
    if not isinstance(options, Mapping):
        msg = f"task_queues: {name!r} is described by a mapping of options, not by {options!r:.80}"
        raise ImproperlyConfigured(msg)
    said = dict(options)
    exchange = said.pop("exchange", None)
    key = said.pop("routing_key", None) or said.pop("binding_key", None) or name
    kind = said.pop("exchange_type", None) or "direct"
    about = {short: said.pop(long) for short, long in _EXCHANGE.items() if said.get(long) is not None}
    if exchange is not None and not isinstance(exchange, str):
        kind, about, exchange = exchange.type, _about_exchange(exchange) | about, exchange.name
    return QueueSpec(
        name,
        exchange or "",
        kind,
        key,
        about,
        bool(said.pop("durable", said.pop("queue_durable", True))),
        bool(said.pop("exclusive", False)),
        bool(said.pop("auto_delete", said.pop("queue_auto_delete", False))),
        said.pop("queue_arguments", said.pop("arguments", None)),
        {option: said[option] for option in _OPTIONS if said.get(option) is not None},
    )


#: What is said of an exchange among the options of its queue.
_EXCHANGE: Final = {
    "durable": "exchange_durable",
    "auto_delete": "exchange_auto_delete",
    "arguments": "exchange_arguments",
    "delivery_mode": "delivery_mode",
}


def _of_object(queue: Any) -> QueueSpec:
    """Return what one of kombu's ``Queue`` objects says; kombu itself is not needed for that."""
    exchange = queue.exchange
    return QueueSpec(
        queue.name,
        exchange.name if exchange is not None else "",
        exchange.type if exchange is not None else "direct",
        queue.routing_key or "",
        _about_exchange(exchange) if exchange is not None else {},
        bool(queue.durable),
        bool(queue.exclusive),
        bool(queue.auto_delete),
        queue.queue_arguments,
        {option: getattr(queue, option) for option in _OPTIONS if getattr(queue, option, None) is not None},
        tuple(
            {
                "exchange": binding.exchange.name,
                "type": binding.exchange.type,
                "routing_key": binding.routing_key,
                "arguments": binding.arguments,
            }
            for binding in queue.bindings or ()
        ),
    )


def _about_exchange(exchange: Any) -> dict[str, Any]:
    names = ("durable", "auto_delete", "arguments", "delivery_mode", "passive", "no_declare")
    return {name: getattr(exchange, name) for name in names if getattr(exchange, name, None) is not None}
