"""How the demo starts and ends."""

import os
import select
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.demo.running import Demo, running_demo


def children(process_id: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process_id}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def ends(process_fd: int) -> bool:
    """Whether the process ends within some seconds."""
    readable, _, _ = select.select([process_fd], [], [], 20)
    os.close(process_fd)
    return bool(readable)


def local_aws(demo: Demo) -> int:
    """A descriptor of the one process that the demo has started."""
    (child,) = children(demo.process.pid)
    return os.pidfd_open(child)


def test_a_taken_port_is_left_to_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        taken = owner.getsockname()[1]
        with running_demo(taken) as demo:
            assert urlsplit(demo.url).port != taken
            with urlopen(demo.url) as response:
                assert b"<title>replyd demo</title>" in response.read()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at children in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_nothing_of_it_outlives_it(number: int, code: int) -> None:
    with running_demo() as demo:
        child = local_aws(demo)
        assert demo.end(number) == (code, "")
        assert ends(child)
