"""A PACS that speaks DIMSE (PS3.7): C-FIND lists, C-GET brings instances over the same association, or C-MOVE to us."""

from __future__ import annotations

import os
import re
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import IO, Any, Final

from filelock import FileLock
from pydicom import Dataset
from pydicom.config import IGNORE, settings
from pydicom.uid import UID, AllTransferSyntaxes, SecondaryCaptureImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation, UserIdentityNegotiation
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined] # they are made when the module is loaded
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from model.errors import ImageError, JobError, Reason
from model.pacs.access import Access, Secrets, tls_failure
from model.pacs.address import PacsAddress, series_path
from model.pacs.client import (
    EVERYTHING,
    PATIENCE_SECONDS,
    Instance,
    Place,
    Selection,
    Series,
    Study,
    Turn,
    failed,
    instance_uid,
)

settings.writing_validation_mode = IGNORE  # a server is asked for the UIDs that it has, whatever they look like

AT_ONCE = 16
"""Instances of a series that are asked for together, and are in memory together."""

ANSWER_SECONDS = 60.0
"""Between two messages of the server."""

_ALERT_SECONDS = 3.0
"""Within which a server that does not like our certificate has said so."""

_SUCCESS, _SOME_FAILED, _NOT_WANTED = 0x0000, 0xB000, 0xA702

_SYNTAXES: Final = tuple(
    uid for uid in map(UID, AllTransferSyntaxes) if not re.search("MPEG|HEVC|JPIP|SMPTE|Part 2", uid.name)
)
"""Transfer syntaxes of single pictures: so few that an association has room for a context of each (PS3.8 9.3.2)."""


class Dimse:
    """See :class:`model.pacs.client.Pacs`. One association is kept, which lists and brings instances.

    Args:
        address: of the application entity.
        access: how it is spoken to.
        patient: wait for a server that is away.
    """

    def __init__(self, address: PacsAddress, access: Access, *, patient: bool) -> None:
        self._address, self._access = address, access
        self._patience = PATIENCE_SECONDS if patient else 0.0
        self._kept: tuple[str, Association] | None = None
        self._classes: tuple[str, dict[str, str]] = "", {}
        self._wanted: set[str] = set()
        self.questions = 1
        self.repeated = 0
        self._came: dict[str, IO[bytes]] = {}

    def check(self) -> None:
        """See :class:`model.pacs.client.Pacs`: a C-ECHO; nobody is waited for."""
        association = self._associate([build_context(Verification)])
        try:
            status = association.send_c_echo()
            if not status or status.Status != _SUCCESS:
                raise failed(self._address, "does not answer a C-ECHO: is it a DICOM server?")
        finally:
            association.release()

    def studies(self, selection: Selection) -> Iterator[Study]:
        """See :class:`model.pacs.client.Pacs`; a modality is asked for after the other."""
        dates = f"{selection.since:%Y%m%d}-" if selection.since else ""
        seen: set[str] = set()
        for modality in selection.modalities or ("",):
            query = _query("STUDY", StudyInstanceUID="", StudyDate=dates, ModalitiesInStudy=modality)
            query.NumberOfStudyRelatedInstances = None
            for found in self._find(query):
                uid, day = str(found.get("StudyInstanceUID") or ""), str(found.get("StudyDate") or "")
                early = selection.since and len(day) == 8 and day < f"{selection.since:%Y%m%d}"
                if uid and uid not in seen and not early:
                    seen.add(uid)
                    yield Study(uid, _number(found, "NumberOfStudyRelatedInstances"))

    def series(self, study: str, selection: Selection = EVERYTHING) -> list[Series]:
        """See :class:`model.pacs.client.Pacs`."""
        series: dict[str, Series] = {}
        for modality in selection.modalities or ("",):
            query = _query("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", Modality=modality)
            query.NumberOfSeriesRelatedInstances = None
            for found in self._find(query):
                uid, kind = str(found.get("SeriesInstanceUID") or ""), str(found.get("Modality") or "")
                if uid and (not (selection.modalities and kind) or kind in selection.modalities):
                    series[uid] = Series(uid, _number(found, "NumberOfSeriesRelatedInstances"))
        return list(series.values())

    def instances(self, study: str, series: str) -> list[Instance]:
        """See :class:`model.pacs.client.Pacs`."""
        query = _query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
        found = dict.fromkeys(str(one.get("SOPInstanceUID") or "") for one in self._find(query))
        return [Instance(uid) for uid in found if uid]

    def fetch(self, places: Iterable[Place], turn: Turn) -> Iterator[tuple[Place, bytes | ImageError]]:
        """See :class:`model.pacs.client.Pacs`: a series' instances come together, so many at a time as are kept."""
        for (study, series), group in groupby(places, key=lambda place: place[:2]):
            while some := list(islice(group, AT_ONCE)):
                for _ in some:
                    turn()
                yield from self._together(study, series, some)

    def changes(self, _since: str, /) -> tuple[str, Mapping[str, str] | None]:
        """See :class:`model.pacs.client.Pacs`: DIMSE has no such marks."""
        return "", {}

    def store(self, dataset: Dataset) -> None:
        """Send an object to the server, by C-STORE.

        Raises:
            JobError: it does not answer, or refuses.
        """
        association = self._associate([build_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)])
        try:
            status = association.send_c_store(dataset)
        finally:
            association.release()
        if not status or status.Status >> 12 not in {0x0, 0xB}:
            raise failed(self._address, f"does not take a {dataset.SOPClassUID.name} object: may we store there?")

    def close(self) -> None:
        """See :class:`model.pacs.client.Pacs`."""
        self._leave()

    def _together(self, study: str, series: str, places: Sequence[Place]) -> Iterator[tuple[Place, bytes | ImageError]]:
        self._wanted, self._came = {place[2] for place in places}, {}
        why = dict.fromkeys(self._wanted, (Reason.UNREACHABLE, "the server did not send it"))
        try:
            classes = self._classes_of(study, series)
            for sop_class in sorted({classes.get(uid, "") for uid in self._wanted}):
                some = [place[2] for place in places if classes.get(place[2], "") == sop_class]
                self._bring(study, series, sop_class, some, why)
        except JobError as error:
            why = dict.fromkeys(self._wanted, (Reason.UNREACHABLE, str(error)))
            self._patience = 0.0  # the next need not wait as long again
        else:
            self._patience = PATIENCE_SECONDS
        for place in places:
            if came := self._came.pop(place[2], None):
                with came:
                    came.seek(0)
                    yield place, came.read()
                continue
            where = f"{self._address.root}/{series_path(study, series)}/{place[2]}"
            yield place, ImageError(where, *why[place[2]])

    def _classes_of(self, study: str, series: str) -> dict[str, str]:
        """SOP Class UIDs of a series' instances, for which contexts are needed."""
        if self._classes[0] != series:
            query = _query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="", SOPClassUID="")
            found = self._find(query)
            self._classes = series, {str(one.get("SOPInstanceUID")): str(one.get("SOPClassUID") or "") for one in found}
        return self._classes[1]

    def _bring(
        self, study: str, series: str, sop_class: str, uids: list[str], why: dict[str, tuple[Reason, str]]
    ) -> None:
        """Have instances sent; if the server refuses all for the sake of one, one after another."""
        query = _query("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=uids)
        try:
            if self._access.ae_port is None:
                self._get(query, sop_class)
            else:
                with self._taking():
                    self._move(query)
        except _RefusedError as error:
            if len(uids) == 1:
                why[uids[0]] = Reason.UNREACHABLE, str(error)
                return
            for uid in uids:
                if uid not in self._came:
                    self._bring(study, series, sop_class, [uid], why)

    def _get(self, query: Dataset, sop_class: str) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scp_role, role.scu_role = UID(sop_class or SecondaryCaptureImageStorage), True, False
        # A context for each transfer syntax, so that the server sends each as it keeps it.
        contexts = [build_context(model), *(build_context(role.sop_class_uid, syntax) for syntax in _SYNTAXES)]
        handlers = [(evt.EVT_C_STORE, self._store)]
        association = self._association(f"C-GET {sop_class}", contexts, [role], handlers)
        self._last_status("C-GET", lambda: association.send_c_get(query, model))

    def _move(self, query: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        association = self._association("C-MOVE", [build_context(model)])
        self._last_status("C-MOVE", lambda: association.send_c_move(query, self._access.ae_title, model))

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        uid = str(request.AffectedSOPInstanceUID)
        if uid not in self._wanted:  # what nobody has asked for is not taken
            return _NOT_WANTED
        content = event.encoded_dataset()
        if instance_uid(content) == uid:  # on disk until it is wanted: there may be sixteen large ones
            self._came[uid] = file = tempfile.TemporaryFile(prefix="cbmir-")  # noqa: SIM115 (closed when it is read)
            file.write(content)
        return _SUCCESS

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """Listen at our own port; the workers of a machine take turns at it."""
        port = self._access.ae_port
        assert port is not None
        with FileLock(Path(tempfile.gettempdir()) / f"cbmir-{os.getuid()}-port-{port}.lock"):
            entity = self._entity()
            entity.supported_contexts = [
                build_context(str(one.abstract_syntax), list(_SYNTAXES)) for one in AllStoragePresentationContexts
            ]
            context = None
            if self._address.scheme == "dimse+tls" and self._access.certificate:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(self._access.certificate, self._access.key or None)
            handlers = [(evt.EVT_C_STORE, self._store)]
            try:
                server = entity.start_server(("", port), block=False, evt_handlers=handlers, ssl_context=context)
            except OSError as error:
                raise JobError(f"--ae-port {port} cannot be listened at: {error.strerror}") from error
            try:
                yield
            finally:
                server.shutdown()

    def _find(self, query: Dataset) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        association = self._association("")
        found: list[Dataset] = []

        def noted() -> Iterator[tuple[Dataset, Dataset | None]]:
            for status, identifier in association.send_c_find(query, model):
                if identifier is not None:
                    found.append(identifier)
                yield status, identifier

        try:
            self._last_status("C-FIND", noted)
        except _RefusedError as error:
            raise failed(self._address, str(error)) from error
        return found

    def _last_status(self, what: str, ask: Callable[[], Iterable[tuple[Dataset, Dataset | None]]]) -> None:
        """Take all answers; what single instances failed is seen by what did not come.

        Raises:
            JobError: the association broke.
            _RefusedError: the server did not do it.
        """
        status: int | None = None
        try:
            for answer, _ in ask():
                status = answer.get("Status")
        except (ValueError, RuntimeError) as error:  # no context was accepted, or the association is lost
            self._leave()
            raise failed(self._address, f"offers no {what} now; without C-GET give --ae-port") from error
        if status is None:
            self._leave()
            raise failed(self._address, "broke the association off")
        if status not in {_SUCCESS, _SOME_FAILED}:
            raise _RefusedError(f"the server refuses with status 0x{status:04X}")

    def _association(
        self, what: str, contexts: Sequence[Any] = (), roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
    ) -> Association:
        """An association for something beside C-FIND, or for that alone, kept from call to call.

        Raises:
            JobError: the server is away for too long, or rejects us.
        """
        if self._kept and what in {"", self._kept[0]} and self._kept[1].is_established:
            return self._kept[1]
        self._leave()
        again = Retrying(
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(max=15),
            retry=retry_if_exception_type(JobError),
            reraise=True,
        )
        listing = build_context(StudyRootQueryRetrieveInformationModelFind)
        association = again(self._associate, [listing, *contexts], roles, handlers)
        self._kept = what, association
        return association

    def _leave(self) -> None:
        before, self._kept = self._kept, None
        if before and before[1].is_established:
            before[1].release()

    def _entity(self) -> Any:
        entity = AE(self._access.ae_title)
        entity.acse_timeout = entity.dimse_timeout = ANSWER_SECONDS
        entity.network_timeout = None  # a kept association may be idle while pictures are decoded
        entity.connection_timeout = 10.0
        entity.maximum_pdu_size = 2**18
        return entity

    def _associate(
        self, contexts: Sequence[Any], roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
    ) -> Association:
        title, host, port = self._address.entity
        tls = (self._access.tls(), host) if self._address.scheme == "dimse+tls" else None
        more = [*roles]
        secrets = Secrets.from_environment()
        if secrets.user:  # PS3.7 section D.3.3.7
            identity = UserIdentityNegotiation()
            identity.user_identity_type, identity.primary_field = 2, secrets.user.encode()
            identity.secondary_field = secrets.password.encode()
            more.append(identity)
        association: Association = self._entity().associate(
            host,
            port,
            list(contexts),
            title,
            ext_neg=more or None,
            tls_args=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once), *handlers],
        )
        if association.is_established:
            return association
        if association.is_rejected:
            raise failed(self._address, f"rejects {self._access.ae_title}: make this title (--ae-title) known to it")
        raise failed(self._address, f"does not answer: {self._why(host, port) if tls else 'no association'}")

    def _why(self, host: str, port: int) -> str:
        """What pynetdicom does not say: the server may have refused our TLS, of which it tells when it is spoken to."""
        try:
            with (
                socket.create_connection((host, port), _ALERT_SECONDS) as plain,
                self._access.tls().wrap_socket(plain, server_hostname=host) as connection,
            ):
                connection.recv(1)
        except ssl.SSLError as error:
            return tls_failure(error)
        except OSError:
            pass
        return "no association"


class _RefusedError(Exception):
    """The server did not do what it was asked for."""


def _send_at_once(event: evt.Event) -> None:
    """Send each message when it is there: a request is two, and the second would wait for an answer to the first."""
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _query(level: str, **keys: Any) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(query, name, value)
    return query


def _number(found: Dataset, name: str) -> int | None:
    value = found.get(name)
    return int(value) if value is not None and str(value).isdigit() else None
