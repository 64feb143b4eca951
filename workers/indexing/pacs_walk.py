"""Finding instances in a PACS: series by series, and of those that have not changed only what the ledger knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from index.ledger import Known
from index.roots import Root
from model.errors import JobError
from model.images.sources import join
from model.pacs.access import Access
from model.pacs.address import PacsAddress, is_pacs, parse_pacs, series_path
from model.pacs.client import EVERYTHING, Pacs, Selection, Series, Study, connect
from workers.indexing.found import FoundDirectory, FoundFile

_A_LIMIT = 100
"""Results from which on a page that comes twice looks like a server's limit, and no more like all that there is."""


class KnownFiles(Protocol):
    """What the ledger knows of a root; of an index that hides names it is not asked."""

    def directory(self, path: str, /) -> dict[str, Known]:
        """The files known in one directory, by name."""

    def directories(self, below: str, /) -> list[str]:
        """The directories below a path in which files are known."""


@dataclass(slots=True)
class PacsWalk:
    """Walks servers, and keeps their change marks.

    Attributes:
        access: how they are spoken to.
        selection: what of them is wanted.
        marks: root → the mark of an earlier job that came to its end; those of now take their place.
    """

    access: Access = field(default_factory=Access.from_environment)
    selection: Selection = EVERYTHING
    marks: dict[str, str] = field(default_factory=dict)

    def walk(self, root: Root, known: KnownFiles | None) -> Iterator[FoundDirectory]:
        """The instances at, or below, a root's start, a directory a series.

        A series is not listed again if it has as many instances as are known of it, and its server does not say that
        it has changed; where the study has as many as are known of it, nor are its series.
        """
        address = parse_pacs(root.start)
        pacs = connect(address, self.access)
        try:
            if address.instance:
                yield _single(root.below, address)
                return
            mark, changed = pacs.changes(self.marks.get(root.address, ""))
            unchanged = known if changed is not None else None
            failed = False
            below = partial(_below, root, address)
            studies = [Study(address.study)] if address.study else pacs.studies(self.selection)
            for study, listed in self._listed(pacs, address, studies, below, unchanged, changed or {}):
                try:
                    for found in listed.result():
                        yield _without_other_roots(root, found)
                except JobError as error:  # one study that cannot be listed is no reason to leave the others
                    failed = True
                    yield FoundDirectory(below(f"studies/{study.uid}"), [], {"": str(error)})
                    pacs.check()  # but a server that is away is not waited for once a study
            if pacs.repeated:  # then nothing is called gone that was not listed
                more = f"the server gives the same {pacs.repeated:,} results for the next page, and may have more"
                suspicious = {"": more} if pacs.repeated >= _A_LIMIT else {}
                yield FoundDirectory(root.below, [], suspicious, incomplete=True)
            if mark and not failed and self.selection.is_everything:
                self.marks[root.address] = mark
        except JobError as error:
            yield FoundDirectory(root.below, [], {"": str(error)})
        finally:
            pacs.close()

    def _listed(
        self,
        pacs: Pacs,
        address: PacsAddress,
        studies: Iterable[Study],
        below: Callable[[str], str],
        known: KnownFiles | None,
        changed: Mapping[str, str],
    ) -> Iterator[tuple[Study, Future[list[FoundDirectory]]]]:
        """The studies in order; so many are listed at once as may be, as an answer takes its time on the way.

        Raises:
            JobError: the server names no more studies; those that it has named come first.
        """
        changed_studies = set(changed.values())
        ahead: deque[tuple[Study, Future[list[FoundDirectory]]]] = deque()
        with ThreadPoolExecutor(pacs.questions, "list") as pool:

            def begin(study: Study) -> Future[list[FoundDirectory]]:
                directories = known.directories(below(f"studies/{study.uid}/series")) if known else []
                there = {one: known.directory(one) for one in directories} if known else {}
                unchanged = not address.series and study.uid not in changed_studies
                if unchanged and there and sum(map(len, there.values())) == study.instances:
                    return pool.submit(lambda: [_as_known(*one) for one in there.items()])
                return pool.submit(self._list, pacs, address, study, below, there, changed)

            try:
                try:
                    for study in studies:
                        ahead.append((study, begin(study)))
                        if len(ahead) == pacs.questions:
                            yield ahead.popleft()
                except JobError:
                    yield from ahead
                    raise
                yield from ahead
            finally:
                for _, future in ahead:
                    future.cancel()

    def _list(
        self,
        pacs: Pacs,
        address: PacsAddress,
        study: Study,
        below: Callable[[str], str],
        known: Mapping[str, Mapping[str, Known]],
        changed: Mapping[str, str],
    ) -> list[FoundDirectory]:
        """What a study holds, a directory a series; of what has not changed, what is known by directory."""
        listing: list[FoundDirectory] = []
        total = 0
        several = [Series(address.series)] if address.series else pacs.series(study.uid, self.selection)
        for series in several:
            path = below(series_path(study.uid, series.uid))
            before = known.get(path, {}) if series.uid not in changed else {}
            if before and len(before) == series.instances:
                listing.append(_as_known(path, before))
                total += len(before)
                continue
            instances = pacs.instances(study.uid, series.uid)
            files = sorted(FoundFile(one.uid, one.size, one.mark) for one in instances)
            problem: dict[str, str] = {}
            fewer = series.instances is not None and len(files) < series.instances
            total += len(files)
            if fewer and not any(one.mark for one in instances):  # Orthanc's count may be what a header says
                problem = {"": f"the server counts {series.instances:,} instances, and lists {len(files):,}"}
            listing.append(FoundDirectory(path, files, problem, incomplete=fewer or bool(pacs.repeated)))
        if study.instances and self.selection.is_everything and total < study.instances:
            # Fewer than there are: nothing of the study is called gone.
            listing.append(FoundDirectory(below(f"studies/{study.uid}"), [], {}, incomplete=True))
        return listing


def _below(root: Root, address: PacsAddress, path: str) -> str:
    """A path below the server as one below the root, which may be a study or a series of it."""
    whole = f"{address.root}/{path}"
    return "" if root.address.startswith(whole) else whole.removeprefix(root.address).strip("/")


def _without_other_roots(root: Root, found: FoundDirectory) -> FoundDirectory:
    """What of a directory is this root's: a study, series or instance of it may be a root of its own."""
    others = [one for one in root.skip if is_pacs(one)]
    if not others:
        return found
    folder = join(root.address, found.path)
    own = [file for file in found.files if not any(_lies_in(f"{folder}/{file.name}", one) for one in others)]
    return replace(found, files=own)


def _lies_in(address: str, root: str) -> bool:
    return address == root or address.startswith(f"{root}/")


def _as_known(path: str, known: Mapping[str, Known]) -> FoundDirectory:
    return FoundDirectory(path, [FoundFile(name, *one.stamp) for name, one in sorted(known.items())], {})


def _single(below: str, address: PacsAddress) -> FoundDirectory:
    return FoundDirectory(below.rpartition("/")[0], [FoundFile(address.instance if below else "", 0, 0)], {})
