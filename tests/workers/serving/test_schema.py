"""The API against what it says of itself, with whatever programs may send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from workers.serving.application import make_application
from workers.serving.retrieval import Retrieval


@pytest.fixture(scope="module")
def application(retrieval: Retrieval) -> FastAPI:
    made = make_application(retrieval.settings)
    made.state.retrieval = retrieval
    return made


@pytest.fixture(scope="module")
def api(application: FastAPI) -> OpenApiSchema:
    return schemathesis.openapi.from_asgi("/api/openapi.json", application, headers={"Host": "localhost"})


def test_every_answer_is_one_that_is_announced(api: OpenApiSchema) -> None:
    operations = [found.ok() for found in api.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 8
    for operation in operations:

        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def check(case: Case[Any]) -> None:
            # What is no picture is refused, though no schema can say so.
            case.call_and_validate(headers={"Host": "localhost"}, excluded_checks=[positive_data_acceptance])

        check()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_brought_the_server_answers_on(application: FastAPI, archive: Path, data: st.DataObject) -> None:
    whole = (archive / "knee" / "knee-001.dcm").read_bytes()
    start = data.draw(st.sampled_from([b"", whole[:132], whole[: len(whole) // 2], b"II*\0", b"\x89PNG\r\n\x1a\n"]))
    content = start + data.draw(st.binary(max_size=300))
    client = TestClient(application, base_url="http://localhost", raise_server_exceptions=False)
    name = data.draw(st.text(max_size=20))
    response = client.post("/api/search", files=[("image", (name, content))])
    assert response.status_code in {200, 422}, response.text
    assert client.get("/api/status").status_code == 200
