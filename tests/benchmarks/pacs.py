"""How fast a job fetches from a real PACS, beside dicomweb-client alone with as many connections.

``python -m tests.benchmarks.pacs [--files N] [--series-of N]``: Orthanc is started over a folder of its own; the
network costs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import requests
from dicomweb_client.api import DICOMwebClient

from index.roots import Root
from model.network.bundled import find_model
from model.pacs.access import Access
from model.pacs.client import EVERYTHING, Place, connect
from tests.benchmarks import free
from tests.benchmarks.archive import write_archive
from tests.benchmarks.figures import print_machine
from tests.support.orthanc import PASSWORD, USER, Orthanc
from workers.indexing.discovery import discover

CONNECTIONS = 4


def alone(orthanc: Orthanc, places: list[Place]) -> float:
    """Instances a second by dicomweb-client in threads, nothing done with them."""
    session = requests.Session()
    session.auth = (USER, PASSWORD)
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
    client = DICOMwebClient(orthanc.dicomweb.removeprefix("dicomweb+"), session=session)
    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(lambda place: client.retrieve_instance(*place), places):
            pass
    return len(places) / (time.perf_counter() - started)


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pacs", description=main.__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--series-of", type=int, default=10)
    arguments = parser.parse_args()
    print_machine()
    here = str(Path(__file__).parents[2])  # for Ray's workers
    os.environ.update(CBMIR_PACS_USER=USER, CBMIR_PACS_PASSWORD=PASSWORD, PYTHONPATH=here)
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as name:
        work = Path(name)
        (work / "orthanc").mkdir()
        archive = write_archive(work / "archive", arguments.files, series_of=arguments.series_of)
        orthanc = Orthanc(work / "orthanc")
        try:
            orthanc.take(*sorted(file for file in archive.rglob("*") if file.is_file()))
            started = time.perf_counter()
            listed = sum(len(found.files) for found in discover(Root(0, orthanc.dicomweb)))
            listing = listed / (time.perf_counter() - started)
            with closing(connect(orthanc.dicomweb, Access(connections=CONNECTIONS))) as pacs:
                places = [
                    (study.uid, series.uid, one.uid)
                    for study in pacs.studies(EVERYTHING)
                    for series in pacs.series(study.uid, EVERYTHING)
                    for one in pacs.instances(study.uid, series.uid)
                ]
            by_library = alone(orthanc, places)
            free.main(orthanc.dicomweb, str(work / "index"), str(find_model(None)), str(work / "free.json"))
            by_job = json.loads((work / "free.json").read_text())["rate"]
        finally:
            orthanc.stop()
    series = f"studies of a series of {arguments.series_of}"
    print(f"{len(places):,} instances of 256 x 256 in {series}, {CONNECTIONS} connections, Orthanc beside it")
    print(f"listing alone {listing:.1f}/s")
    print(f"dicomweb-client alone {by_library:.1f}/s, a job in steady state {by_job:.1f}/s: {by_job / by_library:.2f}")


if __name__ == "__main__":
    main()
