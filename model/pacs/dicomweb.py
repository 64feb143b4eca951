"""A PACS that speaks DICOMweb (PS3.18): QIDO-RS lists, WADO-RS brings instances, encoded as they are kept there."""

from __future__ import annotations

import hashlib
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from itertools import islice
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests_toolbelt import MultipartDecoder
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.util.retry import Retry

from model.errors import ImageError, JobError, Reason
from model.pacs.access import USER_AGENT, Access, Secrets, tls_failure
from model.pacs.address import PacsAddress, series_path
from model.pacs.client import EVERYTHING, Instance, Place, Selection, Series, Study, Turn, failed, instance_uid

PAGE = 500
"""Results asked for at once; a server may give fewer, and is asked on until it has none."""

TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""

PATIENT_RETRIES = 9
"""With pauses of 1, 2, 4, … 30 seconds: three minutes."""

CUT_OFF_ATTEMPTS = 4
"""Times that an answer which was cut off is asked for."""

_BUSY: Final = (429, 502, 503, 504)

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _STUDY_DATE = "00080060", "00080020"
_OF_STUDY, _OF_SERIES = "00201208", "00201209"

_AS_IT_IS = {"Accept-Encoding": "identity"}
"""Packing each picture by gzip takes Orthanc longer than a hospital's network takes to send it."""

_AS_KEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class DicomWeb:
    """See :class:`model.pacs.client.Pacs`.

    Args:
        address: of the service.
        access: how it is spoken to.
        patient: wait for a server that is away.
    """

    def __init__(self, address: PacsAddress, access: Access, *, patient: bool) -> None:
        self._address, self._access = address, access
        tls = access.tls() if address.scheme == "dicomweb+https" else None
        self._hasty = _session(access, tls, 0)
        self._session = _session(access, tls, PATIENT_RETRIES) if patient else self._hasty
        self._client = self._client_of(self._session)
        self._asking = self._session
        self._orthanc: bool | None = None
        self.questions = access.connections
        self.repeated = 0
        self._noting = Lock()

    def _client_of(self, session: requests.Session) -> DICOMwebClient:
        client = DICOMwebClient(self._address.url, session=session, permissive_uid=True, timeout=TIMEOUT_SECONDS)
        client.set_http_retry_params(retry=False)  # urllib3 does it, and honours Retry-After
        return client

    def check(self) -> None:
        """See :class:`model.pacs.client.Pacs`; nobody is waited for."""
        client = self._client_of(self._hasty)
        self._ask(lambda: client.search_for_studies(limit=1))

    def studies(self, selection: Selection) -> Iterator[Study]:
        """See :class:`model.pacs.client.Pacs`; a modality is asked for after the other, as QIDO-RS matches one."""
        dates = {"StudyDate": f"{selection.since:%Y%m%d}-"} if selection.since else {}
        seen: set[str] = set()
        for filters in [{"ModalitiesInStudy": one} | dates for one in selection.modalities] or [dates]:
            for found in self._pages("studies", fields=[_OF_STUDY], search_filters=filters):
                uid, day = _text(found, _STUDY), _text(found, _STUDY_DATE)
                early = selection.since and len(day) == 8 and day < f"{selection.since:%Y%m%d}"
                if uid and uid not in seen and not early:
                    seen.add(uid)
                    yield Study(uid, _number(found, _OF_STUDY))

    def series(self, study: str, selection: Selection = EVERYTHING) -> list[Series]:
        """See :class:`model.pacs.client.Pacs`."""
        series: dict[str, Series] = {}
        for filters in [{"Modality": one} for one in selection.modalities] or [{}]:
            for found in self._pages("series", study, fields=[_OF_SERIES], search_filters=filters):
                uid, modality = _text(found, _SERIES), _text(found, _MODALITY)
                if uid and (not (selection.modalities and modality) or modality in selection.modalities):
                    series[uid] = Series(uid, _number(found, _OF_SERIES))
        return list(series.values())

    def instances(self, study: str, series: str) -> list[Instance]:
        """See :class:`model.pacs.client.Pacs`; Orthanc tells size and version of each."""
        if self._is_orthanc():
            query = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
            answer = self._orthanc_json("tools/find", {"Level": "Instance", "Expand": True, "Query": query})
            found = {}  # of two patients with the same UID it keeps two
            for one in answer:
                uid = one["MainDicomTags"]["SOPInstanceUID"]
                found[uid] = Instance(uid, int(one["FileSize"]), _mark(one["FileUuid"]))
            return list(found.values())
        listed = self._pages("instances", study, series)
        return [Instance(uid) for uid in dict.fromkeys(_text(one, _INSTANCE) for one in listed) if uid]

    def _pages(self, kind: str, *uids: str, **more: Any) -> Iterator[dict[str, Any]]:
        """All results, page by page; a page that has nothing new ends it, as of a server that knows no offset."""
        search = getattr(self._client, f"search_for_{kind}")
        key = {"studies": _STUDY, "series": _SERIES, "instances": _INSTANCE}[kind]
        seen: set[str] = set()
        offset = 0
        while True:
            page = self._ask(lambda offset=offset: search(*uids, limit=PAGE, offset=offset, **more))
            new = [one for one in page if _text(one, key) not in seen]
            if not new:
                with self._noting:
                    self.repeated = max(self.repeated, len(page))
                return
            seen.update(_text(one, key) for one in new)
            offset += len(page)
            yield from new

    def fetch(self, places: Iterable[Place], turn: Turn) -> Iterator[tuple[Place, bytes | ImageError]]:
        """See :class:`model.pacs.client.Pacs`; so many are under way as there are connections."""
        ahead: deque[tuple[Place, Future[bytes | ImageError]]] = deque()
        with ThreadPoolExecutor(self._access.connections, "wado-rs") as pool:
            coming = iter(places)
            try:
                for place in islice(coming, self._access.connections):
                    ahead.append((place, pool.submit(self._fetch, place, turn)))
                while ahead:
                    place, future = ahead.popleft()
                    result = future.result()
                    ahead.extend((one, pool.submit(self._fetch, one, turn)) for one in islice(coming, 1))
                    yield place, result
            finally:
                for _, future in ahead:
                    future.cancel()

    def _fetch(self, place: Place, turn: Turn) -> bytes | ImageError:
        address = f"{self._address.root}/{series_path(*place[:2])}/{place[2]}"
        turn()
        again = Retrying(
            stop=stop_after_attempt(CUT_OFF_ATTEMPTS),
            wait=wait_random_exponential(max=5),
            retry=retry_if_exception_type(requests.exceptions.ChunkedEncodingError),
            reraise=True,
        )
        session = self._asking
        try:
            content, uid = again(self._retrieve, session, place)
        except requests.HTTPError as error:
            return ImageError(address, Reason.UNREACHABLE, f"the server answers {_status(error)}")
        except requests.RequestException as error:
            self._asking = self._hasty  # the next need not wait as long again
            return ImageError(address, Reason.UNREACHABLE, _say(error))
        except Exception as error:  # what the library raises for what is no multipart message, and pydicom for no DICOM
            return ImageError(address, Reason.UNREACHABLE, f"the server sent something else ({type(error).__name__})")
        self._asking = self._session
        if uid != place[2]:
            return ImageError(address, Reason.UNREACHABLE, "the server sent another instance than the one asked for")
        return content

    def _retrieve(self, session: requests.Session, place: Place) -> tuple[bytes, str]:
        """The instance as it is kept; dicomweb-client would read it into a dataset, which takes longer than its way."""
        url = f"{self._address.url}/{series_path(*place[:2])}/{place[2]}"
        answer = session.get(url, headers={"Accept": _AS_KEPT} | _AS_IT_IS, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        content: bytes = answer.content
        if not answer.headers["Content-Type"].startswith("application/dicom"):  # a part alone, as some servers send it
            content = MultipartDecoder.from_response(answer).parts[0].content
        return content, instance_uid(content)

    def changes(self, since: str, /) -> tuple[str, Mapping[str, str] | None]:
        """See :class:`model.pacs.client.Pacs`: Orthanc's ``/changes``, of which those of whole series are taken."""
        if not self._is_orthanc():
            return "", {}
        last = str(self._orthanc_json("changes?last")["Last"])
        if not since or int(last) < int(since):  # its database was made anew
            return last, None
        known, series = since, set()
        done = False
        while not done:
            answer = self._orthanc_json(f"changes?since={known}&limit=1000")
            series |= {one["ID"] for one in answer["Changes"] if one["ChangeType"] == "StableSeries"}
            done, known = answer["Done"] or not answer["Changes"], str(answer["Last"])
        changed: dict[str, str] = {}
        for one in series:
            try:
                tags = self._orthanc_json(f"series/{one}")["MainDicomTags"]
                study = self._orthanc_json(f"series/{one}/study")["MainDicomTags"]
            except JobError as error:
                if _status(error.__cause__) == HTTPStatus.NOT_FOUND:  # deleted since
                    continue
                raise
            changed[tags["SeriesInstanceUID"]] = study["StudyInstanceUID"]
        return known, changed

    def close(self) -> None:
        """See :class:`model.pacs.client.Pacs`."""
        self._session.close()
        self._hasty.close()

    def _is_orthanc(self) -> bool:
        """Whether an Orthanc's own interface stands beside its DICOMweb, and lets us in.

        Raises:
            JobError: nobody answers; what is known of an Orthanc would else be taken for changed.
        """
        if self._orthanc is None and not urlsplit(self._address.url).path.strip("/"):
            self._orthanc = False  # nothing stands beside the server itself
        if self._orthanc is None:
            try:
                here = self._session.get(self._beside("system"), timeout=TIMEOUT_SECONDS)
                self._orthanc = here.ok and {"ApiVersion", "DicomAet"} <= here.json().keys() and self._may_find()
            except (ValueError, AttributeError):  # no JSON, or another program's
                self._orthanc = False
            except requests.RequestException as error:
                raise failed(self._address, f"does not answer: {_say(error)}") from error
        return self._orthanc

    def _may_find(self) -> bool:
        """Whether we may ask it for versions and changes; people with fewer rights are let into its DICOMweb alone."""
        asked: Any = {"Level": "Instance", "Limit": 1, "Query": {"SOPInstanceUID": "0"}}
        found = self._session.post(self._beside("tools/find"), json=asked, timeout=TIMEOUT_SECONDS)
        return found.ok and self._session.get(self._beside("changes?last"), timeout=TIMEOUT_SECONDS).ok

    def _beside(self, path: str) -> str:
        return f"{self._address.url.rpartition('/')[0]}/{path}"

    def _orthanc_json(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        def ask() -> Any:
            url = self._beside(path)
            method = "GET" if body is None else "POST"
            answer = self._session.request(method, url, json=body, timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
            return answer.json()

        return self._ask(ask)

    def _ask(self, question: Any) -> Any:
        try:
            return question()
        except requests.HTTPError as error:
            raise failed(self._address, _refusal(_status(error))) from error
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # also requests' own of JSON
            what = "does not speak DICOMweb: its answer is no DICOM JSON; is the path right?"
            raise failed(self._address, what) from error
        except requests.RequestException as error:
            raise failed(self._address, f"does not answer: {_say(error)}") from error


def _session(access: Access, tls: ssl.SSLContext | None, retries: int) -> requests.Session:
    session = requests.Session()
    secrets = Secrets.from_environment()
    session.headers["User-Agent"] = USER_AGENT
    if secrets.token:
        session.auth = _Bearer(secrets.token)  # no header of the session: a .netrc would take its place
    elif secrets.user:
        session.auth = (secrets.user, secrets.password)
    again = Retry(
        retries, backoff_factor=0.5, backoff_max=30, status_forcelist=_BUSY, allowed_methods=None, raise_on_status=False
    )
    if tls:
        session.mount("https://", _Trusting(tls, pool_maxsize=access.connections, pool_block=True, max_retries=again))
    session.mount("http://", HTTPAdapter(pool_maxsize=access.connections, pool_block=True, max_retries=again))
    return session


class _Bearer(AuthBase):
    """Sends a token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Trusting(HTTPAdapter):
    """Connections by our own settings of TLS, also through a proxy; requests adds the authorities that it brings."""

    def __init__(self, tls: ssl.SSLContext, **more: Any) -> None:
        self._tls = tls
        super().__init__(**more)

    def init_poolmanager(self, *sizes: Any, **more: Any) -> None:
        super().init_poolmanager(*sizes, ssl_context=self._tls, **more)

    def proxy_manager_for(self, proxy: Any, **more: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._tls, **more)


def _status(error: BaseException | None) -> int:
    """Of an answer that is an error; 0 of everything else."""
    return error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else 0


def _refusal(code: int) -> str:
    if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"refuses us ({code}): set CBMIR_PACS_USER and CBMIR_PACS_PASSWORD, or CBMIR_PACS_TOKEN, and check what "
            "they allow"
        )
    if code == HTTPStatus.NOT_FOUND:
        return "has no DICOMweb at this path (404): check the address"
    return f"answers {code}: try again later"


def _say(error: requests.RequestException) -> str:
    """An error in a few words, without the address."""
    if isinstance(error, requests.exceptions.SSLError):
        return tls_failure(error)
    if isinstance(error, requests.Timeout):
        return "it takes too long"
    if isinstance(error, requests.exceptions.RetryError):
        return "it is too busy"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def _text(found: Mapping[str, Any], tag: str) -> str:
    values = found.get(tag, {}).get("Value") or [""]
    return str(values[0] or "")


def _number(found: Mapping[str, Any], tag: str) -> int | None:
    text = _text(found, tag)
    return int(text) if text.isdigit() else None


def _mark(version: str) -> int:
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:7], "big")
