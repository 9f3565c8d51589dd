"""Which errors of servers mean that they are there, and do not let us in."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

__all__ = ["is_refusal"]

#: Words in OpenSSL's names of it; a connection that merely ended, or a handshake that took too long, has others.
_TLS: Final = ("CERTIFICATE", "ALERT", "WRONG_VERSION_NUMBER", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "NO_SHARED_CIPHER")
#: AMQP's codes of a wrong password, and of a virtual host that is not there, or not for us.
_AMQP: Final = frozenset({403, 530})
#: What redis-py calls it, which other doors than Redis's own may meet.
_REDIS: Final = frozenset({"AuthenticationError", "AuthorizationError"})


def is_refusal(error: BaseException) -> bool:
    """Whether trying again is of no use before somebody has changed something; what it was made of counts, too."""
    for one in _origins(error):
        if isinstance(one, ssl.SSLError):
            reason = str(one.reason or "").upper()
            if isinstance(one, ssl.SSLCertVerificationError) or any(word in reason for word in _TLS):
                return True
        if getattr(one, "reply_code", None) in _AMQP:
            return True
        if any(kind.__name__ in _REDIS for kind in type(one).__mro__):
            return True
    return False


def _origins(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
