"""The images' health check: ``healthcheck.py PORT`` exits with 0 where /livez on that port answers 200, else with 1."""

import http.client
import sys

TIMEOUT = 4.0
"""Seconds; Docker is told to wait a little longer."""


def is_alive(port: int) -> bool:
    """Whether this machine's ``GET /livez`` answers 200. Asks directly, whatever proxy the environment names."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_alive(int(sys.argv[1])))
