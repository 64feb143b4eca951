"""A real PACS: Orthanc, where it is installed, with a user, DICOMweb and DIMSE, over a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.certificates import Certificates

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGINS = Path("/usr/share/orthanc/plugins")
USER, PASSWORD = "engineer", "pa55-of-the-pacs"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Orthanc:
    """The server; it keeps what it holds when it is stopped and started again.

    Args:
        folder: for its files.
        certificates: by which it speaks DIMSE over TLS, and knows its clients; Debian's 1.10.1 crashes over HTTPS.
    """

    def __init__(self, folder: Path, certificates: Certificates | None = None) -> None:
        self._folder = folder
        self.http, self.dicom, self.ours = free_port(), free_port(), free_port()
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(PLUGINS)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **{f"DicomAlwaysAllow{what}": True for what in ("Echo", "Find", "Get", "Move", "Store")},
            "DicomModalities": {"cbmir": ["CBMIR", "127.0.0.1", self.ours]},
        }
        self._tls = bool(certificates)
        if certificates:
            settings |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": certificates.server,
                "DicomTlsPrivateKey": certificates.server_key,
                "DicomTlsTrustedCertificates": certificates.authority,
                "DicomModalities": {
                    "cbmir": {"AET": "CBMIR", "Host": "127.0.0.1", "Port": self.ours, "UseDicomTls": True}
                },
            }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.start()

    @property
    def dicomweb(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.http}/dicom-web"

    @property
    def dimse(self) -> str:
        return f"dimse{'+tls' * self._tls}://ORTHANC@127.0.0.1:{self.dicom}"

    def start(self) -> None:
        assert PROGRAM
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen([PROGRAM, self._folder / "orthanc.json"], stdout=log, stderr=log)
        for _ in range(200):
            try:
                if self.ask("GET", "system").ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError((self._folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, path: str, **more: object) -> requests.Response:
        return requests.request(
            method,
            f"http://127.0.0.1:{self.http}/{path}",
            auth=(USER, PASSWORD),
            timeout=30,
            **more,  # type: ignore[arg-type]
        )

    def take(self, *files: Path) -> None:
        """Hold files; of those that it refuses it says so."""
        for file in files:
            self.ask("POST", "instances", data=file.read_bytes()).raise_for_status()

    def delete(self, uid: str) -> None:
        """Lose an instance."""
        self.ask("DELETE", self._path(uid)).raise_for_status()

    def anonymise(self, uid: str) -> None:
        """Hold an instance under other UIDs, without its patient, in place of it."""
        path = self._path(uid)
        anonymous = self.ask("POST", f"{path}/anonymize", json={})
        anonymous.raise_for_status()
        self.ask("DELETE", path).raise_for_status()
        self.ask("POST", "instances", data=anonymous.content).raise_for_status()

    def _path(self, uid: str) -> str:
        [found] = self.ask("POST", "tools/lookup", data=uid).json()
        return str(found["Path"]).lstrip("/")


@pytest.fixture(scope="session")
def orthanc_program() -> None:
    """Skip where there is none."""
    if not PROGRAM or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        pytest.skip("needs Orthanc with DICOMweb: make pacs")


@pytest.fixture
def orthanc(orthanc_program: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    """One that holds nothing yet; our programs know its user."""
    monkeypatch.setenv("CBMIR_PACS_USER", USER)
    monkeypatch.setenv("CBMIR_PACS_PASSWORD", PASSWORD)
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder)
    yield server
    server.stop()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Of a server at 127.0.0.1, and its client."""
    return Certificates(tmp_path)


@pytest.fixture
def orthanc_by_tls(orthanc_program: None, certificates: Certificates, tmp_path: Path) -> Iterator[Orthanc]:
    """One that speaks DIMSE only with clients whose certificate it trusts."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder, certificates)
    yield server
    server.stop()
