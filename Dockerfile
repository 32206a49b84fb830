# syntax=docker/dockerfile:1
# One image for amd64 and arm64: Debian's Python, and a virtual environment in which nothing was installed without its hash.

FROM debian:trixie-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && python3 -m venv /build \
 && python3 -m venv --without-pip /opt/kubecarp
WORKDIR /src
COPY requirements.lock ./
RUN awk '/^[a-z]/ { wanted = /^(pyroute2|prometheus-client)==/ } wanted' requirements.lock >base.lock \
 && awk '/^[a-z]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } wanted' requirements.lock >build.lock \
 && /build/bin/pip install --no-cache-dir --require-hashes -r build.lock \
 && /build/bin/pip --python /opt/kubecarp/bin/python install --no-cache-dir --require-hashes -r base.lock
COPY . .
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/kubecarp/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl \
 && /opt/kubecarp/bin/python -m compileall -q /opt/kubecarp/lib

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="kubecarp" \
      org.opencontainers.image.description="Virtual IP addresses that survive the death of their host" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/kubecarp /opt/kubecarp
ENV PATH=/opt/kubecarp/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["carp-sidecar"]
CMD ["run"]
