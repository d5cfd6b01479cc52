"""systemd's protocols: sd_notify(3), the service watchdog, sockets that it listens on for us."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from replyd.errors import ConfigError

_log = structlog.get_logger("replyd")

# SD_LISTEN_FDS_START
_FIRST_FD = 3
# The name (FileDescriptorName=) of sockets for the operations port; others are for webhooks.
_OPS = "ops"
# The manager reads quickly; one that does not must not hold up the loop.
_SEND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What started us, as far as it wants to hear from us. The default wants nothing.

    `watchdog_seconds`: it ends us when it has not heard `WATCHDOG=1` for so long."""

    address: str = ""
    watchdog_seconds: float | None = None
    webhook_sockets: Sequence[socket.socket] = ()
    ops_sockets: Sequence[socket.socket] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "ServiceManager":
        """Takes over the sockets: to be called once. Raises ConfigError for what is not ours."""
        sockets = _inherited_sockets(environ)
        return cls(
            address=environ.get("NOTIFY_SOCKET", ""),
            watchdog_seconds=_watchdog_seconds(environ),
            webhook_sockets=[s for name, s in sockets if name != _OPS],
            ops_sockets=[s for name, s in sockets if name == _OPS],
        )

    def notify(self, *assignments: str) -> None:
        """Send `READY=1`, `STATUS=…` and the like. Never fails: it is not worth a message."""
        if not self.address:
            return
        # "@" stands for the NUL of an abstract address.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SEND_SECONDS)
                channel.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            _log.warning("the service manager cannot be told", reason=error.strerror or str(error))


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() else None


def _inherited_sockets(environ: Mapping[str, str]) -> list[tuple[str, socket.socket]]:
    """Listening sockets by name, as sd_listen_fds_with_names(3)."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    fds = range(_FIRST_FD, _FIRST_FD + int(count))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (len(fds) - len(names))
    return [(name, _listening(fd)) for name, fd in zip(names, fds, strict=False)]


def _listening(fd: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=fd)
    except OSError:
        raise _no_listening_socket(fd) from None
    listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or inherited.type != socket.SOCK_STREAM:
        inherited.close()
        raise _no_listening_socket(fd)
    inherited.set_inheritable(False)
    inherited.setblocking(False)
    return inherited


def _no_listening_socket(fd: int) -> ConfigError:
    return ConfigError(
        [f"file descriptor {fd} (LISTEN_FDS) is no listening socket: use ListenStream="]
    )
