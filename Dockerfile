# hadolint global ignore=DL3059
# replyd in a container: `docker build -t replyd .`; docs/run.md says how to run it.
# Versions and hashes are in config/requirements/, where `renew` makes them from uv.lock. RUN lines
# are in JSON form, one command each (DL3059), so that tests/packaging can execute this file where
# no engine runs; the stage with many of them is not shipped.

# The oldest Python that replyd supports, and the one that its tests run on.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY config/requirements/ config/requirements/
# pip stays out of the environment that is shipped.
RUN ["python", "-m", "venv", "--without-pip", "/opt/replyd"]
RUN ["python", "-m", "pip", "--python", "/opt/replyd/bin/python", "install", "--require-hashes", "-r", "config/requirements/runtime.txt"]
RUN ["python", "-m", "pip", "install", "--require-hashes", "-r", "config/requirements/build.txt"]
COPY pyproject.toml README.md LICENSE ./
COPY replyd/ replyd/
# No git here: --build-arg REPLYD_VERSION=1.2.3, or it calls itself 0.0.0.dev0.
ARG REPLYD_VERSION=""
ENV SETUPTOOLS_SCM_PRETEND_VERSION_FOR_REPLYD=$REPLYD_VERSION
RUN ["python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/wheels", "."]
RUN ["python", "-m", "pip", "--python", "/opt/replyd/bin/python", "install", "--no-deps", "--no-index", "--find-links", "/wheels", "replyd"]

FROM build AS build-demo
RUN ["python", "-m", "pip", "--python", "/opt/replyd/bin/python", "install", "--require-hashes", "-r", "config/requirements/demo.txt"]

# What both images are, but for their files.
FROM python:3.11-slim AS image
LABEL org.opencontainers.image.title="replyd" \
      org.opencontainers.image.description="Answers WhatsApp replies: Twilio webhooks in, one good AI answer out, on SQS and DynamoDB." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/replyd/bin:$PATH
EXPOSE 8080
# Drains for up to server.drain_seconds (75): give it --stop-timeout 90, an engine's default is 10.
STOPSIGNAL SIGTERM
ENTRYPOINT ["replyd"]

# `docker build --target demo`: with a local AWS and the page, for config/compose.yaml.
FROM image AS demo
COPY --from=build-demo /opt/replyd /opt/replyd
RUN ["replyd", "--version"]
USER 10001:10001
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8088/', timeout=3)"]
CMD ["demo", "--no-browser"]

# Last, so that it is what a build without --target makes.
FROM image AS serve
COPY --from=build /opt/replyd /opt/replyd
# Shows that it starts, and leaves bytecode of what it imports: the image's standard library comes
# without, and at run time nothing can be written.
RUN ["replyd", "--version"]
# A number, so that Kubernetes can see that it is not root. It owns nothing.
USER 10001:10001
# Asks /livez on ops.host and ops.port, by default 127.0.0.1:9090.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["replyd", "healthcheck"]
CMD ["serve"]
