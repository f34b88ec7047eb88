FROM python:3.12-slim AS build
WORKDIR /app
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/backsolve \
    && pip --python /opt/backsolve install --no-cache-dir --no-input --root-user-action=ignore \
        --disable-pip-version-check --only-binary=:all: --no-deps --require-hashes \
        --requirement constraints.txt
COPY pyproject.toml alembic.ini ./
COPY alembic ./alembic
COPY app ./app
# Compiled here because it runs read-only; unchecked because a copy may change the times of files.
RUN python -m compileall -q --invalidation-mode unchecked-hash app


FROM python:3.12-slim
# The user has a number for platforms that refuse to start root, and a name for libraries that ask.
RUN groupadd --gid 10001 backsolve \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --no-log-init \
        --shell /usr/sbin/nologin backsolve \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/backsolve /opt/backsolve
COPY --from=build /app /app
# PYTHONPATH: Dask's scheduler is a program of its own, and has to import app too.
ENV PATH=/opt/backsolve/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/tmp \
    BACKSOLVE_HOST=0.0.0.0 \
    BACKSOLVE_PORT=8000 \
    BACKSOLVE_DATA_DIR=/data
WORKDIR /app
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# Liveness, not readiness: an orchestrator that restarts what is unhealthy must not restart the
# API because a database is away. Not urllib, which would send this through a configured proxy.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['BACKSOLVE_PORT']), timeout=8); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app", "run"]
