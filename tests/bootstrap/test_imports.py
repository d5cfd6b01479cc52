"""What a command imports costs each of its starts: what it has no use for must not come back."""

import subprocess
import sys

# By the point until which nobody has imported it.
CODE = """
import sys

def absent(*names):
    found = [m for m in sys.modules if m in names or m.startswith(tuple(n + "." for n in names))]
    assert not found, found

import replyd.cli
# --version, --help, and the health checks of containers.
absent("aiobotocore", "aiohttp", "botocore", "openai", "prometheus_client", "pydantic", "rich")
absent("structlog", "replyd.adapters", "replyd.settings")
absent("replyd.bootstrap.connections", "replyd.bootstrap.process")

import replyd.bootstrap.process
# `replyd serve`, until it is ready.
absent("jsonschema", "openai", "opentelemetry", "replyd.adapters.openai", "replyd.bootstrap.openai")
absent("replyd.adapters.memory", "replyd.adapters.provisioning", "replyd.demo")
absent("replyd.operate.render", "replyd.operate.forget", "replyd.provision", "replyd.simulation")

import replyd.bootstrap.openai
# And later, unless a profile is an assistant.
absent("replyd.adapters.openai.assistants", "openai.types.beta.threads")
"""


def test_nobody_imports_what_they_do_not_need() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)
