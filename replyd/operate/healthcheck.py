"""`replyd healthcheck`: for containers."""

import sys
import urllib.error
import urllib.request

_SECONDS = 3.0


def is_alive(host: str, port: int) -> bool:
    """Asks /livez of the operations port, where a process listens on this address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    url = f"http://{host}:{port}/livez"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        print(f"{url} does not answer: {getattr(error, 'reason', error)}", file=sys.stderr)
        return False
