"""``python -m tests.support.stand_in FOLDER [--port PORT] [--discards]``: print the port and serve until the signal."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.support.stand_in.service import StandIn


def main() -> None:
    """Serve the collections of a folder, which are there again after a restart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the collections")
    parser.add_argument("--port", type=int, default=0, help="of gRPC; a free one by default")
    parser.add_argument("--discards", action="store_true", help="throw away what is upserted")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = StandIn(folder=given.folder, port=given.port, discards=given.discards)
    print(server.port, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()


if __name__ == "__main__":
    main()
