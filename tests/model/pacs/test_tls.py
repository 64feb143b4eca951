"""TLS with servers that ask their clients for certificates: a DICOMweb service, and a real Orthanc by DIMSE."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from pydicom import dcmread

from model.errors import JobError, SettingError
from model.pacs.access import Access
from model.pacs.client import EVERYTHING, connect, instance_uid
from model.pacs.key_objects import send_key_objects
from tests.support import phantoms
from tests.support.certificates import Certificates
from tests.support.dicomweb_server import Habits, serve
from tests.support.orthanc import Orthanc


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A phantom."""
    path = tmp_path / "eye.dcm"
    phantoms.dicom([phantoms.draw("eye", 1, 32)], "eye", 1).save_as(path, enforce_file_format=True)
    return path


def trusting(certificates: Certificates) -> Access:
    """As whom the server knows us."""
    access = Access(authorities=certificates.authority, certificate=certificates.client, key=certificates.client_key)
    access.check()
    return access


def fetch(address: str, access: Access) -> str:
    """The SOP Instance UID of the one instance that a server holds, read from its bytes."""
    with closing(connect(address, access, patient=False)) as pacs:
        pacs.check()
        [study] = pacs.studies(EVERYTHING)
        [series] = pacs.series(study.uid, EVERYTHING)
        [instance] = pacs.instances(study.uid, series.uid)
        [(_, content)] = pacs.fetch([(study.uid, series.uid, instance.uid)], lambda: None)
    assert isinstance(content, bytes), content
    return instance_uid(content)


def refusal(address: str, access: Access) -> str:
    """What is said where a server cannot be spoken to."""
    with closing(connect(address, access, patient=False)) as pacs, pytest.raises(JobError) as refused:
        pacs.check()
    return str(refused.value)


@pytest.fixture
def other(tmp_path: Path) -> str:
    """An authority that nobody knows."""
    path = str(tmp_path / "other.pem")
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.mark.parametrize("token", ["", "secret"])
def test_dicomweb(
    file: Path, certificates: Certificates, other: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str
) -> None:
    # What a user's machine may have beside, and must not take the place of what was said.
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    for name, value in (("HOME", str(tmp_path)), ("CBMIR_PACS_TOKEN", token), ("REQUESTS_CA_BUNDLE", other)):
        monkeypatch.setenv(name, value)
    habits = Habits([file], tls=certificates.for_server())
    with serve(habits) as address:
        assert fetch(address, trusting(certificates)) == dcmread(file).SOPInstanceUID
        assert habits.authorizations == ({f"Bearer {token}"} if token else {"Basic c29tZWJvZHk6ZWxzZQ=="})
        assert "not trusted" in refusal(address, Access(authorities=other))
        assert "our own certificate" in refusal(address, Access(authorities=certificates.authority))


def test_c_move(orthanc_by_tls: Orthanc, file: Path, certificates: Certificates) -> None:
    orthanc_by_tls.take(file)
    access = replace(trusting(certificates), ae_port=orthanc_by_tls.ours)
    assert fetch(orthanc_by_tls.dimse, access) == dcmread(file).SOPInstanceUID


def test_dimse(orthanc_by_tls: Orthanc, file: Path, certificates: Certificates, other: str) -> None:
    access = trusting(certificates)
    orthanc_by_tls.take(file)
    assert fetch(orthanc_by_tls.dimse, access) == dcmread(file).SOPInstanceUID
    sent = send_key_objects([str(file)], orthanc_by_tls.dimse, access)
    assert (sent.documents, sent.instances) == (1, 1)
    assert len(orthanc_by_tls.ask("GET", "instances").json()) == 2
    assert "not trusted" in refusal(orthanc_by_tls.dimse, Access(authorities=other))
    assert "our own certificate" in refusal(orthanc_by_tls.dimse, Access(authorities=certificates.authority))


def test_certificates_that_are_none_are_said_before(certificates: Certificates) -> None:
    with pytest.raises(SettingError, match="cannot be used"):
        Access(certificate=certificates.authority).check()  # there is no key in it
