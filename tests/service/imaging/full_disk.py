"""Finishes an order where no file may be as long as the picture's: a child process of the tests."""

import resource
import sys
from pathlib import Path

from service.outputs import finish as finishing
from service.outputs.order import Order
from service.outputs.store import STORE_ERRORS, folder_store


def main(root: Path, order: Order, part: int) -> None:
    longest = max(path.stat().st_size for path in root.rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
    finishing._PART_BYTES = part
    try:
        finishing.finish(order, folder_store(root), "jobs/a", lambda _: None)
    except STORE_ERRORS:
        print("the store failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Order.from_json(sys.argv[2]), int(sys.argv[3]))
