"""One warm instance of a function: `python -m tests.benchmarks.parties.two_lambda.runner NAME`.

An event is a line of JSON on the standard input, its answer one on the standard output, with the
seconds that the function took, which are what Lambda bills. Lambda's runtime fetches and posts them
over HTTP, which costs more.
"""

import importlib
import json
import logging
import sys
import time


def main() -> None:
    logging.getLogger().setLevel(logging.INFO)
    for noisy in ("botocore", "httpx", "httpx2", "openai", "twilio", "twilio.http_client"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    package = __name__ if __spec__ is None else __spec__.parent
    handler = importlib.import_module(f"{package}.{sys.argv[1]}").handler
    _write({})
    for line in sys.stdin:
        began = time.monotonic()
        answer = handler(json.loads(line), None)
        _write([answer, time.monotonic() - began])


def _write(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
