"""python -m app.jobs.cluster_worker PORT HEALTH_PORT: a worker of a cluster."""

import sys

from app.jobs.delivery import work
from app.settings import Settings

if __name__ == "__main__":
    port, health_port = map(int, sys.argv[1:])
    work(Settings(), port=port, health_port=health_port)
