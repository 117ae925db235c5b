# The gateway, without torch:  docker build -f docker/gateway.Dockerfile -t creps-serve-gateway .
#
# It needs no root and no writable root: --user 10001, --read-only and --tmpfs /tmp are enough. It writes to /tmp and
# /outputs (CREPS_OUTPUTS, unless that is a bucket) alone, and reads /models (CREPS_MODELS). Where that is a bucket, its
# copies go to CREPS_MODEL_CACHE, by default below /tmp.
ARG PYTHON_VERSION=3.12.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# A layer of their own: a new version of the program alone leaves it as it is, where it was built and where it is pulled.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*p['optional-dependencies']['gateway'], *p['optional-dependencies']['tracing'], sep='\n')" > requirements.txt \
    && python -m venv --without-pip /opt/creps \
    && pip --python /opt/creps/bin/python install --no-cache-dir \
        --constraint constraints.txt --requirement requirements.txt

FROM python:${PYTHON_VERSION}-slim-bookworm AS wheel
WORKDIR /build
COPY . .
# By the environment, since the option --constraint does not reach the tools that build.
RUN PIP_CONSTRAINT=constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON_VERSION}-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CREPS Serve gateway" \
      org.opencontainers.image.description="Answers HTTP requests with the pictures of CREPS workers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# New volumes take the owner of the folder that they are mounted on.
RUN groupadd --gid 10001 creps \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin creps \
    && install --directory --owner 10001 --group 10001 /models /outputs /cache
COPY --from=dependencies /opt/creps /opt/creps
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/creps/bin/python install --no-cache-dir --no-deps /wheel/*.whl
COPY --chmod=0644 docker/healthcheck.py /opt/creps/healthcheck.py
ENV PATH=/opt/creps/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CREPS_LOG_FORMAT=json \
    CREPS_HOST=:: \
    CREPS_PORT=8000 \
    CREPS_MODELS=/models \
    CREPS_OUTPUTS=/outputs
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["sh", "-c", "exec python -I /opt/creps/healthcheck.py \"$CREPS_PORT\" \"$CREPS_HOST\""]
ENTRYPOINT ["creps"]
CMD ["gateway"]
