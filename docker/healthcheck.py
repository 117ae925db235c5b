"""The images' health check: ``healthcheck.py PORT [HOST]`` exits with 0 where /livez answers 200, else with 1."""

import http.client
import sys

TIMEOUT = 4.0
"""Seconds; Docker is told to wait a little longer."""


LOCAL = "127.0.0.1"

ALL = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - to compare with
"""Values of CREPS_HOST with which the service listens on LOCAL, too."""


def is_alive(port: int, host: str) -> bool:
    """Whether ``GET /livez`` answers 200. Asks directly, whatever proxy the environment names."""
    connection = http.client.HTTPConnection(LOCAL if host in ALL else host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_alive(int(sys.argv[1]), "".join(sys.argv[2:])))
