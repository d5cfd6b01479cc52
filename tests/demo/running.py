"""`replyd demo` as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

COMMAND = (sys.executable, "-m", "replyd", "demo")
_LINE = re.compile(r"replyd demo: (http://127\.0\.0\.1:\d+/)   \(Ctrl-C ends it\)\n")


def environ(**more: str) -> dict[str, str]:
    """This process's, without what would make the demo use the real OpenAI."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return own | more


@dataclass(frozen=True, slots=True)
class Demo:
    process: "subprocess.Popen[str]"
    url: str

    def end(self, signal: int) -> tuple[int, str]:
        """The exit code, and everything printed after the line with the URL."""
        self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out + err


@contextmanager
def running_demo(port: int = 0) -> Iterator[Demo]:
    """With the page, once it is served; killed at the end if it still runs."""
    with subprocess.Popen(
        [*COMMAND, "--no-browser", "--port", str(port)],
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = _LINE.fullmatch(line)
            if found is None:
                process.kill()
                raise AssertionError((line, *process.communicate()))
            yield Demo(process, found[1])
        finally:
            process.kill()
