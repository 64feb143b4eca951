"""The API and the page, asked over HTTP."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from index.answers.records import answers_json
from tests.support import phantoms
from workers.serving.application import make_application
from workers.serving.question import Filters
from workers.serving.retrieval import Retrieval
from workers.serving.settings import Access, ServingSettings


def brought(path: Path) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (path.name, path.read_bytes(), "application/octet-stream"))]


def ask(client: TestClient, path: Path, **question: Any) -> dict[str, Any]:
    response = client.post("/api/search", files=brought(path), params=question)
    assert response.status_code == 200, response.text
    [answer] = response.json()
    return dict(answer)


def test_an_answer_is_that_of_the_command_line(
    client: TestClient, archive: Path, served_index: Path, cbmir: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    query = archive / "knee" / "knee-001.dcm"
    answer = ask(client, query, top=5, no_class_prediction=True)
    assert cbmir("search", query, "-i", served_index, "-n", 5, "--no-class-prediction", "--format", "json") == 0
    [printed] = json.loads(capfd.readouterr().out)
    assert answer["query"] == query.name
    for hits in (answer["hits"], printed["hits"]):
        for hit in hits:
            hit["distance"] = pytest.approx(hit["distance"], abs=1e-3)
    assert answer["hits"] == printed["hits"]
    assert {**answer, "query": "", "hits": []} == {**printed, "query": "", "hits": []}


def test_several_pictures_are_several_answers(client: TestClient, archive: Path) -> None:
    files = brought(archive / "eye" / "eye-000.dcm") + brought(archive / "knee" / "knee-000.dcm")
    answers = client.post("/api/search", files=files).json()
    assert [answer["query"] for answer in answers] == ["eye-000.dcm", "knee-000.dcm"]


def test_filters_are_those_of_a_search(client: TestClient, archive: Path) -> None:
    query = archive / "chest" / "chest-001.dcm"
    anywhere = {"no_class_prediction": True, "top": 50, "any_modality": True}
    assert {hit["label"] for hit in ask(client, query, label=["knee", "eye"], **anywhere)["hits"]} == {"knee", "eye"}
    assert {hit["modality"] for hit in ask(client, query, modality="ct", **anywhere)["hits"]} == {"CT"}
    near = ask(client, query, **anywhere)["hits"]
    cut = ask(client, query, within=near[2]["distance"] + 1e-4, **anywhere)["hits"]
    assert [hit["id"] for hit in cut] == [hit["id"] for hit in near[:3]]


def test_a_stored_picture_is_asked_with_more_and_less(client: TestClient) -> None:
    anywhere: dict[str, str | int] = {"no_class_prediction": "true", "any_modality": "true", "top": 50}
    first = client.get("/api/facets").json()["label"]
    assert set(first) == set(phantoms.ORGANS)
    [one, two, *_] = [hit["id"] for hit in _of(client, "knee")]
    found = client.get(f"/api/like/{one}", params=anywhere).json()
    assert one not in {hit["id"] for hit in found["hits"]}
    assert found["hits"][0]["distance"] is not None
    examples = {"more": two, "less": str(found["hits"][0]["id"])}
    less = client.get(f"/api/like/{one}", params=anywhere | examples).json()
    assert not {one, two, found["hits"][0]["id"]} & {hit["id"] for hit in less["hits"]}
    scores = [hit["score"] for hit in less["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert client.get(f"/api/like/{one[:8]}").json()["query"] == one[:8]


def _of(client: TestClient, label: str) -> list[dict[str, Any]]:
    picture = io.BytesIO()
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(picture, "PNG")
    asked = {"label": label, "no_class_prediction": "true"}
    [answer] = client.post("/api/search", files=[("image", ("grey.png", picture.getvalue()))], params=asked).json()
    return list(answer["hits"])


def test_a_part_of_a_picture_is_another_picture(client: TestClient, archive: Path) -> None:
    query = archive / "chest" / "chest-001.dcm"
    whole = ask(client, query, no_class_prediction=True)
    part = ask(client, query, no_class_prediction=True, crop="0.5,0.5,0.5,0.5")
    assert [hit["distance"] for hit in part["hits"]] != [hit["distance"] for hit in whole["hits"]]
    stored = _of(client, "chest")[0]["id"]
    shown = client.get("/", params={"like": stored, "crop": "0.5,0.5,0.5,0.5", "no_class_prediction": True})
    assert "The whole picture again" in shown.text
    for wrong in ("1,2,3,4", "left", "0.5,0.5,0.9,0.9"):
        assert client.post("/api/search", files=brought(query), params={"crop": wrong}).status_code == 422


def test_stored_pictures_are_shown_and_nothing_else(client: TestClient) -> None:
    hit = _of(client, "eye")[0]
    response = client.get(f"/api/points/{hit['id']}/image", params={"side": 40})
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, max(picture.size)) == ("JPEG", 40)
    assert client.get(f"/api/points/{hit['id']}").json()["label"] == "eye"
    for unknown in ("00000000-0000-0000-0000-000000000000", "1.2.3", "..%2F..%2Fetc%2Fpasswd", hit["path"]):
        for address in (f"/api/points/{unknown}/image", f"/api/points/{unknown}", f"/api/like/{unknown}"):
            assert client.get(address).status_code == 404


def test_what_cannot_be_read_is_one_sentence(client: TestClient, tmp_path: Path, archive: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    response = client.post("/api/search", files=brought(tmp_path / "notes.txt"))
    assert response.status_code == 422
    assert response.json()["error"].startswith("notes.txt: not an image")
    assert "cbmir-query" not in response.text
    query = archive / "knee" / "knee-001.dcm"
    for question, sentence in (
        ({"frame": 7}, "it has 1 frames: there is no frame 7"),
        ({"organ": "hart"}, "--organ hart"),
        ({"layer": "fcl9"}, "--layer fcl9"),
        ({"top": 0}, "top: "),
        ({"size": 3}, "size: Extra inputs"),
        ({"crop": "1,2"}, "1,2 is no part of a picture"),
        ({"exclude_same": "patient"}, "the index knows no patient groups"),
    ):
        response = client.post("/api/search", files=brought(query), params=question)
        assert response.status_code == 422
        assert sentence in response.json()["error"]


def test_the_page_asks_answers_and_forgets(client: TestClient, archive: Path) -> None:
    empty = client.get("/")
    assert "Which stored pictures look like yours?" in empty.text
    sent = client.post("/", files=brought(archive / "knee" / "knee-001.dcm"), follow_redirects=False)
    assert sent.status_code == 303
    page = client.get(sent.headers["location"])
    assert page.text.count('<li class="hit') > 2
    assert "knee-001.dcm" in page.text
    assert "Not for diagnosis" in page.text
    key = sent.headers["location"].rpartition("upload=")[2]
    assert client.get(f"/uploads/{key}").headers["content-type"] == "image/jpeg"
    assert client.get(f"/uploads/{key}?crop=left").status_code == 422
    assert client.get(f"/uploads/{key}?frame=9").status_code == 422
    missing = client.get("/nothing")
    assert (missing.status_code, "Begin anew" in missing.text) == (404, True)
    assert client.get("/api/nothing").json() == {"error": "Not Found"}
    gone = client.get("/", params={"upload": "another"})
    assert (gone.status_code, "bring it again" in gone.text) == (404, True)


def test_an_answer_can_be_taken_away(client: TestClient) -> None:
    question = {"like": _of(client, "knee")[0]["id"], "no_class_prediction": True, "top": 5}
    kept = client.get("/answer.json", params=question).json()
    rows = list(csv.DictReader(io.StringIO(client.get("/answer.csv", params=question).text)))
    assert [row["id"] for row in rows] == [hit["id"] for hit in kept[0]["hits"]]
    sheet = Image.open(io.BytesIO(client.get("/answer.png", params=question).content))
    assert sheet.format == "PNG"
    assert client.get("/answer.csv").status_code == 422


def test_whoever_operates_it_sees_what_it_does(client: TestClient, served_index: Path) -> None:
    assert client.get("/healthz").text == "ok\n"
    status = client.get("/api/status").json()
    assert (status["index"], status["pictures"], status["written_by"]) == (str(served_index), 28, None)
    client.get("/api/points/1.2.3")
    metrics = client.get("/metrics").text
    assert 'cbmir_requests_total{route="/api/points/{uid}",status="404"} 1.0' in metrics
    assert "cbmir_request_seconds_bucket" in metrics


def test_answers_are_written_down_without_names(
    retrieval: Retrieval, archive: Path, tmp_path: Path, served_index: Path
) -> None:
    settings = ServingSettings(
        retrieval.settings.index, audit_log=tmp_path / "audit", access=Access(user_header="X-User")
    )
    application = make_application(settings)
    application.state.retrieval = retrieval
    client = TestClient(application, base_url="http://localhost", headers={"X-User": "ada"})
    found = ask(client, archive / "knee" / "knee-001.dcm")
    client.get("/", params={"like": found["hits"][0]["id"]})
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"time", "who", "index", "query", "hits"}] * 2
    assert [line["who"] for line in lines] == ["ada", "ada"]
    assert lines[0]["hits"] == [hit["id"] for hit in found["hits"]]
    assert lines[1]["query"] == found["hits"][0]["id"]
    assert "knee-001" not in (tmp_path / "audit").read_text()
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0


def test_hits_link_to_a_viewer(retrieval: Retrieval, client: TestClient) -> None:
    hit = _of(client, "knee")[0]
    settings = ServingSettings(retrieval.settings.index, viewer_url="https://viewer/?s={study}&i={instance}")
    application = make_application(settings)
    application.state.retrieval = retrieval
    page = TestClient(application, base_url="http://localhost").get("/", params={"like": hit["id"], "top": 50})
    other = client.get(f"/api/like/{hit['id']}").json()["hits"][0]
    assert f"https://viewer/?s={other['study_instance_uid']}&amp;i={other['sop_instance_uid']}" in page.text


def test_asked_together_or_alone_the_answers_are_the_same(retrieval: Retrieval, archive: Path) -> None:
    files = sorted(archive.glob("*/*-00[0-3].dcm"))

    def answer(path: Path) -> str:
        shown = retrieval.answer_picture(path.name, path.read_bytes(), Filters(no_class_prediction=True), 1, "")
        return answers_json([shown.answer], shown.roots)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(answer, files))
    for path, one in zip(files, together, strict=True):
        alone = json.loads(answer(path))[0]["hits"]
        assert [hit["id"] for hit in json.loads(one)[0]["hits"]] == [hit["id"] for hit in alone]
