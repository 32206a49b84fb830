# syntax=docker/dockerfile:1
# One image for operator, agent, sidecar and kubectl-carp, on amd64 and arm64: Debian's Python, and a virtual environment in which nothing was
# installed without its hash. Two layers of it: the packages, which a new version of kubecarp seldom changes, and kubecarp itself.

FROM debian:trixie-slim AS build
# For a mirror of PyPI: --build-arg PIP_INDEX_URL=https://...
ARG PIP_INDEX_URL
ARG PIP_CERT
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv
WORKDIR /src
COPY requirements.lock pyproject.toml tests/closure.py ./
RUN python3 closure.py --build >build.lock \
 && python3 closure.py operator >runtime.lock \
 && python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes -r build.lock \
 && python3 -m venv --without-pip /opt/kubecarp \
 && /build/bin/pip --python /opt/kubecarp/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes -r runtime.lock

# Out goes what no program of ours can reach. Of the kubernetes package they use connection, TLS and credentials, and write the requests
# themselves: generated methods, the asynchronous twin, and all models but the three that kopf imports are 115 of its 118 MB. rich colours source
# code with pygments, which nobody asks for. Tests, commands of other packages, and files of compilers and type checkers.
RUN cd /opt/kubecarp/lib/python3.*/site-packages \
 && rm -r kubernetes/aio kubernetes/client/api kubernetes/client/apis pygments \
 && find kubernetes/client/models -type f ! -name __init__.py ! -name v1_object_meta.py ! -name v1_owner_reference.py ! -name v1_managed_fields_entry.py -delete \
 && find kubernetes -type f \( -name 'test_*.py' -o -name '*_test.py' -o -name example.py \) -delete \
 && find . -type d -name tests -prune -exec rm -r {} + \
 && find . -type f -regex '.*\.\(c\|h\|pxd\|pyi\|pyx\)' -delete \
 && find /opt/kubecarp/bin -type f -delete \
 && /opt/kubecarp/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .

COPY . .
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/kubecarp/bin/python install --no-cache-dir --no-compile --no-index --no-deps --prefix /ours /wheels/*.whl \
 && /opt/kubecarp/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /ours -p /opt/kubecarp /ours/lib

FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/log/*
COPY --from=build /opt/kubecarp /opt/kubecarp
COPY --from=build /ours /opt/kubecarp
LABEL org.opencontainers.image.title="kubecarp" \
      org.opencontainers.image.description="Virtual IP addresses that survive the death of their host" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/kubecarp/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Python's threads take turns anyway: a heap for each of them would be 0.9 MB more in the sidecar, and what each keeps back for itself
# fills for an hour and more (0.6 MB of heap, seven threads). Large buffers come from the kernel and go back to it: in the heap, where they are cut
# down to the few bytes that came, they leave holes (0.3 MB of what is mapped).
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=65536:glibc.malloc.trim_threshold=65536
# The sidecar needs uid 0 for its two capabilities; operator and agent run with any other: the image names no user.
ENTRYPOINT ["carp-sidecar"]
CMD ["run"]
