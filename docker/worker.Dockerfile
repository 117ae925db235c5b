# A worker for NVIDIA GPUs:  docker build -f docker/worker.Dockerfile -t creps-serve-worker .
# For CPUs, much smaller:    docker build -f docker/worker.Dockerfile -t creps-serve-worker-cpu \
#                                --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#
# It needs no root and no writable root: --user 10001, --read-only and --tmpfs /tmp are enough. It writes to /tmp,
# /outputs (CREPS_OUTPUTS, unless that is a bucket) and /cache/triton (TRITON_CACHE_DIR) alone, and reads /models
# (CREPS_MODELS). Where that is a bucket, its copies go to CREPS_MODEL_CACHE, by default below /tmp. Keep Triton's cache
# in a volume: kernels are then compiled once for each kind of GPU.
ARG PYTHON_VERSION=3.12.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS dependencies
# The index that torch alone is taken from: PyPI's is the CUDA build.
ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# A layer of their own: a new version of the program alone leaves it as it is, where it was built and where it is pulled.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = [p['optional-dependencies'][name] for name in ('gateway', 'worker', 'tracing', 'video')]; \
        print(*(line for extra in extras for line in extra if 'creps-serve[' not in line), sep='\n')" > requirements.txt \
    && python -m venv --without-pip /opt/creps \
    && pip --python /opt/creps/bin/python install --no-cache-dir --no-deps \
        --constraint constraints.txt --index-url "$TORCH_INDEX" torch \
    && pip --python /opt/creps/bin/python install --no-cache-dir \
        --constraint constraints.txt --requirement requirements.txt
# Triton's own ptxas 12.8 may overwrite operands of Hopper's matrix products before they are read (fixed in 13.3).
RUN if /opt/creps/bin/python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('triton') is None)"; then \
        pip --python /opt/creps/bin/python install --no-cache-dir --no-deps \
            --constraint constraints.txt nvidia-cuda-nvcc \
        && ln -s /opt/creps/lib/python3.*/site-packages/nvidia/cu13/bin/ptxas /opt/creps/bin/ptxas; \
    fi

FROM python:${PYTHON_VERSION}-slim-bookworm AS wheel
# With a compiler, the wheel gets kernels for all kinds of CPUs, so that the image needs no compiler for them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# By the environment, since the option --constraint does not reach the tools that build.
RUN PIP_CONSTRAINT=constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON_VERSION}-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CREPS Serve worker" \
      org.opencontainers.image.description="Renders the pictures and tiles that CREPS gateways queue" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# New volumes take the owner of the folder that they are mounted on.
RUN groupadd --gid 10001 creps \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin creps \
    && install --directory --owner 10001 --group 10001 /models /outputs /cache /cache/triton
COPY --from=dependencies /opt/creps /opt/creps
# Triton compiles each kernel's launcher, a small C program, where it runs: with gcc, the C library's headers and
# Python's, which the base image has. A build of torch without triton needs none of them.
# Debian keeps only the newest version of a package: one that is pinned could not be had for long.
# hadolint ignore=DL3008
RUN if /opt/creps/bin/python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('triton') is None)"; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/creps/bin/python install --no-cache-dir --no-deps /wheel/*.whl
COPY --chmod=0644 docker/healthcheck.py /opt/creps/healthcheck.py
ENV PATH=/opt/creps/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CREPS_LOG_FORMAT=json \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_CACHE_DIR=/cache/triton \
    TRITON_PTXAS_PATH=/opt/creps/bin/ptxas \
    CREPS_MODELS=/models \
    CREPS_OUTPUTS=/outputs \
    CREPS_METRICS_PORT=9000
USER 10001:10001
WORKDIR /tmp
EXPOSE 9000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "exec python -I /opt/creps/healthcheck.py \"$CREPS_METRICS_PORT\""]
ENTRYPOINT ["creps"]
CMD ["worker"]
