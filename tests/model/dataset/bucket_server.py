"""A bucket of DICOM series on the loopback interface, under the archive's addresses, whose answers can be disturbed."""

from __future__ import annotations

import io
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import NAMESPACE_OID, uuid5

import httpx
import pandas as pd
from moto.server import ThreadedMotoServer

from model.dataset.plan import COLUMNS, patient_group
from tests.support import phantoms

BUCKET = "idc-open-data"


@dataclass
class Faults:
    """What goes wrong, by the end of the object's name; each as often as its number says.

    Attributes:
        unavailable: answered by 503.
        cut: the connection closes in the middle of the body.
        damaged: a byte of the body is another one.
        requests: how often each was asked for as a whole.
    """

    unavailable: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)

    def strike(self, kind: Counter[str], path: str) -> bool:
        """Whether this request is struck by a fault of the kind."""
        for name in kind:
            if path.endswith(name) and kind[name] > 0:
                kind[name] -= 1
                return True
        return False


@dataclass
class BucketServer:
    """The server's address, what goes wrong with it, and the plan of what lies there."""

    endpoint: str
    faults: Faults
    plan: pd.DataFrame


@contextmanager
def serve(organs: dict[str, int], *, series: int, slices: int) -> Iterator[BucketServer]:
    """Serve ``series`` series a patient for so many patients of each organ, with three pictures and one localizer each.

    Of each series the plan asks for ``slices`` pictures.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    origin = f"http://{host}:{port}"
    rows = []
    with httpx.Client(base_url=origin, timeout=60) as client:
        client.put(f"/{BUCKET}").raise_for_status()
        for organ, patients in organs.items():
            for patient in range(patients):
                rows += [_upload(client, organ, f"{organ}{patient}", number, slices) for number in range(series)]
        faults = Faults()
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(client, faults))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            plan = pd.DataFrame(rows, columns=list(COLUMNS))
            yield BucketServer(f"http://127.0.0.1:{server.server_port}", faults, plan)
        finally:
            server.shutdown()
            server.server_close()
            moto.stop()


def _upload(client: httpx.Client, organ: str, patient: str, number: int, slices: int) -> dict[str, object]:
    folder = uuid5(NAMESPACE_OID, f"{patient}/{number}")
    size = 0
    for position in range(4):
        # The names of objects say nothing of their order, nor do their Instance Numbers here.
        name = uuid5(NAMESPACE_OID, f"{folder}/{(position * 7) % 5}")
        ds = phantoms.dicom(
            [phantoms.draw(organ, hash_of(patient, number, position), 64)], organ, f"{patient}/{number}/{position}"
        )
        ds.SeriesInstanceUID = phantoms.uid(patient, number)
        ds.PatientID = patient
        ds.InstanceNumber = 9 - position
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [0, 0, 5.0 * position]
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if position == 3 else "AXIAL"]
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        content = file.getvalue()
        size += len(content)
        answer = client.put(f"/{BUCKET}/{folder}/{name}.dcm", content=content, headers={"x-amz-acl": "public-read"})
        answer.raise_for_status()
    fractions = [(n + 0.5) / slices for n in range(slices)]
    return {
        "label": organ,
        "group": patient_group(patient),
        "collection": "made_up",
        "modality": "CT",
        "body_part": organ.upper(),
        "description": "made up",
        "licence": "CC BY 4.0",
        "doi": "10.7937/k9/tcia.2016.eln8ygle",
        "series": phantoms.uid(patient, number),
        "address": f"s3://{BUCKET}/{folder}/",
        "instances": 4,
        "slices": slices,
        "fractions": ";".join(map(str, fractions)),
        "megabytes": size / 4e6 * slices,
    }


def hash_of(*parts: object) -> int:
    """A number that depends on the parts alone."""
    return uuid5(NAMESPACE_OID, "/".join(map(str, parts))).int % 2**31


def _handler(client: httpx.Client, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            whole = "Range" not in self.headers and path.endswith(".dcm")
            if whole:
                faults.requests[path.rpartition("/")[2]] += 1
            if faults.strike(faults.unavailable, path):
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() == "range"}
            answer = client.get(self.path, headers=headers)
            body = answer.content
            if whole and faults.strike(faults.damaged, path):
                body = body[:-1] + bytes([body[-1] ^ 1])
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in {"connection", "transfer-encoding", "content-length", "server", "date"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if whole and faults.strike(faults.cut, path):
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
