"""A DICOMweb service that does not keep to the standard, in the ways that servers in hospitals were seen not to."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset, dcmread

KEYS = {"studies": "0020000D", "series": "0020000E", "instances": "00080018"}


@dataclass
class Habits:
    """What it does.

    Attributes:
        files: what it holds.
        most: results that it gives at once, whatever is asked for.
        knows_offset: or begins anew with each page.
        counts_more: instances that it says to have beyond those that it lists.
        hidden: SOP Instance UIDs that it has lost.
        html: answers a page for people.
        mixes_up: sends another instance of the series.
        busy: times that it asks to come back after a second.
        cuts_off: answers whose end it keeps.
        user_agents: who has asked.
        authorizations: what they have shown.
        listed: series whose instances were listed.
        asked: times that instances were retrieved.
        tls: settings, if it speaks TLS.
    """

    files: list[Path]
    most: int = 1000
    knows_offset: bool = True
    counts_more: int = 0
    hidden: set[str] = field(default_factory=set)
    html: bool = False
    mixes_up: bool = False
    busy: int = 0
    cuts_off: int = 0
    user_agents: set[str] = field(default_factory=set)
    authorizations: set[str | None] = field(default_factory=set)
    listed: list[str] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    tls: ssl.SSLContext | None = None


def _is_listed(ds: Dataset, habits: Habits, uids: dict[str, str]) -> bool:
    return ds.SOPInstanceUID not in habits.hidden and all(ds.get(key) == uid for key, uid in uids.items())


@contextmanager
def serve(habits: Habits) -> Iterator[str]:
    """Its address, until the context ends."""
    held = [dcmread(file) for file in habits.files]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the library's name)
            pass

        def do_GET(self) -> None:
            habits.user_agents.add(self.headers["User-Agent"])
            habits.authorizations.add(self.headers["Authorization"])
            parts = urlsplit(self.path)
            names = parts.path.strip("/").split("/")[1:]
            if habits.html:
                self._send(200, b"<html>Sign in</html>", "text/html")
            elif not names or names[0] != "studies":
                self._send(404, b"", "text/plain")
            elif len(names) == 6:
                self._instance(*names[1::2])
            else:
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                self._list(names, int(asked.get("limit", 100)), int(asked.get("offset", 0)))

        def _list(self, names: list[str], limit: int, offset: int) -> None:
            uids = dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), names[1::2], strict=False))
            there = [ds for ds in held if _is_listed(ds, habits, uids)]
            key = KEYS[names[-1]]
            found: dict[str, dict[str, Any]] = {}
            for ds in there:
                uid = str(ds[key].value)
                number = sum(str(one[key].value) == uid for one in there) + habits.counts_more
                counted = {"studies": "00201208", "series": "00201209", "instances": "00280008"}[names[-1]]
                found[uid] = {key: {"vr": "UI", "Value": [uid]}, counted: {"vr": "IS", "Value": [number]}}
            habits.listed += names[3:4]  # none where no series is named
            start = offset if habits.knows_offset else 0
            page = list(found.values())[start : start + min(limit, habits.most)]
            self._send(200, json.dumps(page).encode(), "application/dicom+json")

        def _instance(self, study: str, series: str, uid: str) -> None:
            habits.asked.append(time.monotonic())
            if habits.busy:
                habits.busy -= 1
                self._send(503, b"", "text/plain", {"Retry-After": "1"})
                return
            of_series = [ds for ds in held if ds.SeriesInstanceUID == series]
            wanted = [ds for ds in of_series if (ds.SOPInstanceUID == uid) != habits.mixes_up]
            file = BytesIO()
            wanted[0].save_as(file)
            body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + file.getvalue() + b"\r\n--B--\r\n"
            cut = bool(habits.cuts_off)
            habits.cuts_off -= cut
            self._send(200, body, 'multipart/related; type="application/dicom"; boundary=B', cut=cut)

        def _send(
            self, code: int, body: bytes, kind: str, more: dict[str, str] | None = None, *, cut: bool = False
        ) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

    server = _TlsServer(Handler, habits.tls) if habits.tls else ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"dicomweb+http{'s' * bool(habits.tls)}://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


class _TlsServer(ThreadingHTTPServer):
    """Each connection agrees to TLS in its own thread; of those that do not, nobody is told."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(ssl.SSLError, ConnectionError), self._tls.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)
