"""Who may ask a server, and how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model.errors import SettingError
from workers.serving.application import make_application
from workers.serving.retrieval import Retrieval
from workers.serving.settings import Access, ServingSettings, check_settings, is_loopback

Guarded = Callable[[Access], TestClient]


@pytest.fixture
def guarded(retrieval: Retrieval) -> Guarded:
    """The application for other people."""

    def make(access: Access) -> TestClient:
        application = make_application(replace(retrieval.settings, access=access))
        application.state.retrieval = retrieval
        return TestClient(application, base_url="http://localhost:8765")

    return make


@pytest.fixture
def picture(archive: Path) -> bytes:
    return (archive / "knee" / "knee-001.dcm").read_bytes()


def send(client: TestClient, picture: bytes, **headers: str) -> int:
    return client.post("/api/search", files=[("image", ("one", picture))], headers=headers).status_code


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:8765", "pacs.hospital"])
def test_it_answers_to_its_names(guarded: Guarded, host: str) -> None:
    assert guarded(Access(names=("PACS.hospital",))).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.7", "[", ""])
def test_it_answers_to_no_other(guarded: Guarded, host: str) -> None:
    for path in ("/", "/api/facets", "/healthz", "/metrics"):
        assert guarded(Access()).get(path, headers={"Host": host}).status_code == 421


def test_an_address_is_a_name_where_all_are_listened_at(guarded: Guarded) -> None:
    everywhere = guarded(Access(host="0.0.0.0", token="secret"))
    assert everywhere.get("/healthz", headers={"Host": "10.0.0.7:8765"}).status_code == 200
    assert everywhere.get("/healthz", headers={"Host": "evil.example"}).status_code == 421


def test_nothing_is_told_without_the_token(guarded: Guarded, picture: bytes) -> None:
    client = guarded(Access(token="secret"))
    for path in ("/", "/api/facets", "/api/status", "/metrics", "/page.js", "/api/openapi.json", "/?token=wrong"):
        response = client.get(path)
        assert response.status_code == 401
        assert "secret" not in response.text
    assert send(client, picture) == 401
    assert send(client, picture, Authorization="Bearer wrong") == 401
    assert send(client, picture, Authorization="Bearer secret") == 200
    assert client.get("/healthz").status_code == 200


def test_the_address_that_was_printed_lets_in_and_hides_the_token(guarded: Guarded) -> None:
    client = guarded(Access(token="secret"))
    response = client.get("/?top=48&token=secret", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, "/?top=48")
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
    assert "secret" in client.cookies.values()
    assert client.get("/api/facets").status_code == 200


def test_a_proxy_says_who_asks(guarded: Guarded) -> None:
    client = guarded(Access(user_header="X-Remote-User"))
    assert client.get("/").status_code == 401
    assert client.get("/", headers={"X-Remote-User": "ada"}).status_code == 200
    both = guarded(Access(host="0.0.0.0", user_header="X-Remote-User", token="secret"))
    named = {"X-Remote-User": "ada"}
    assert both.get("/", headers=named).status_code == 401
    assert both.get("/", headers={**named, "Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)
def test_pages_of_other_sites_cannot_ask(guarded: Guarded, picture: bytes, headers: dict[str, str]) -> None:
    assert send(guarded(Access()), picture, **headers) == 403


def test_its_own_page_can(guarded: Guarded, picture: bytes) -> None:
    own = {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "same-origin"}
    assert send(guarded(Access()), picture, **own) == 200


def test_what_is_no_upload_or_too_large_is_not_read(guarded: Guarded, picture: bytes) -> None:
    client = guarded(Access(largest_upload=1000))
    assert client.post("/api/search", content=b"{}", headers={"Content-Type": "application/json"}).status_code == 415
    assert send(client, bytes(2000)) == 413

    def pieces() -> Iterator[bytes]:  # of which no length is told
        for _ in range(40):
            yield b"x" * 100

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for told in ({}, {"Content-Length": "10"}):
        assert client.post("/api/search", content=pieces(), headers={**form, **told}).status_code in {400, 413}


def test_too_many_uploads_have_to_wait(guarded: Guarded, picture: bytes) -> None:
    client = guarded(Access(uploads_a_second=0.2))  # saves up two
    codes = [send(client, picture) for _ in range(3)]
    assert codes == [200, 200, 429]
    refused = client.post("/api/search", files=[("image", ("one", picture))])
    assert int(refused.headers["Retry-After"]) in range(1, 7)
    assert client.get("/api/facets").status_code == 200


def test_browsers_are_told_to_trust_nothing_else(guarded: Guarded) -> None:
    for path in ("/", "/page.js", "/api/facets", "/api/points/1.2/image"):
        headers = guarded(Access()).get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"]


def test_settings_that_cannot_be_meant_are_refused(retrieval: Retrieval, tmp_path: Path) -> None:
    plain = ServingSettings(retrieval.settings.index)
    for settings, sentence in (
        (replace(plain, access=Access(certificate=tmp_path / "a")), "belong together"),
        (
            replace(plain, access=Access(certificate=tmp_path / "a", key=tmp_path / "b")),
            "--tls-certificate .* not exist",
        ),
        (replace(plain, audit_log=tmp_path / "none" / "log"), "--audit-log .* no folder"),
        (replace(plain, access=Access(host="0.0.0.0")), "they need a --token"),
        (replace(plain, access=Access(host="10.0.0.1", user_header="X-User")), "they need a --token"),
        (replace(plain, viewer_url="viewer/{study}"), "begins with https"),
        (replace(plain, viewer_url="https://viewer/{patient}"), "'patient' stands for nothing"),
        (replace(plain, viewer_url="https://viewer/{study"), "--viewer-url"),
    ):
        with pytest.raises(SettingError, match=sentence):
            check_settings(settings)
    check_settings(replace(plain, viewer_url="https://viewer/{study}/{series}/{instance}"))


def test_this_machine_is_known_by_its_addresses() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "10.0.0.1", "localhost.evil", "::")))
