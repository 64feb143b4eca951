"""A bucket on the loopback interface: an S3 server, before it a door at which requests are refused or kept waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import boto3
import httpx
from moto.server import ThreadedMotoServer

_EXPIRED = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>ExpiredToken</Code>'
    "<Message>The provided token has expired.</Message></Error>"
)


@dataclass
class Bucket:
    """What lies in a bucket, and what goes wrong with it.

    Attributes:
        name: of the bucket, another each time, as all servers in a process share what they hold.
        origin: address of the S3 server itself, and ``client`` of boto3 for it.
        endpoint: address of the door before it.
        seconds: that every object is kept waiting for.
        unavailable: names of objects, each answered by 503 so many times.
        lifetime: objects that are given before the credentials expire; ``None`` for ever.
        given: objects that were given, by name.
    """

    name: str
    origin: str
    client: Any
    endpoint: str = ""
    seconds: float = 0.0
    unavailable: Counter[str] = field(default_factory=Counter)
    lifetime: int | None = None
    given: Counter[str] = field(default_factory=Counter)

    def put(self, name: str, content: bytes) -> None:
        """Put an object there."""
        self.client.put_object(Bucket=self.name, Key=name, Body=content, ACL="public-read")

    def put_folder(self, folder: Path, below: str) -> None:
        """Put all files of a folder there."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{below}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def delete(self, name: str) -> None:
        """Take an object away."""
        self.client.delete_object(Bucket=self.name, Key=name)


@contextmanager
def serve() -> Iterator[Bucket]:
    """Serve an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    origin = f"http://{host}:{port}"
    names = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    bucket = Bucket(f"scans-{uuid4().hex[:8]}", origin, boto3.client("s3", endpoint_url=origin, **names))
    bucket.client.create_bucket(Bucket=bucket.name, ACL="public-read")
    door = ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket))
    threading.Thread(target=door.serve_forever, args=(0.02,), daemon=True).start()
    bucket.endpoint = f"http://127.0.0.1:{door.server_port}"
    try:
        yield bucket
    finally:
        door.shutdown()
        door.server_close()
        moto.stop()


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = unquote(self.path.partition("?")[0]).removeprefix(f"/{bucket.name}/")
            is_object = "." in name and "list-type" not in self.path
            if bucket.lifetime is not None and sum(bucket.given.values()) >= bucket.lifetime:
                self._answer(400, {"Content-Type": "application/xml"}, _EXPIRED.encode())
                return
            if is_object and bucket.unavailable[name] > 0:
                bucket.unavailable[name] -= 1
                self._answer(503, {}, b"")
                return
            if is_object:
                time.sleep(bucket.seconds)
            headers = {key: value for key, value in self.headers.items() if key.lower() == "range"}
            answer = httpx.request(self.command, f"{bucket.origin}{self.path}", headers=headers)
            if is_object and self.command == "GET":
                bucket.given[name] += 1
            hop = {"connection", "transfer-encoding", "server", "date", "content-length", "content-encoding"}
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in hop}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            self._answer(answer.status_code, kept, answer.content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
