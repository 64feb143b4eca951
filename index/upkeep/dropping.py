"""Files' points taken out of an index, but for those that other files share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from uuid import UUID

from index.engines.engine import Index
from index.ledger import FileKey, Ledger
from index.schema import Location

DROP_POINTS = 1024
"""Points looked up and taken out of the index at once."""


def drop_points(index: Index, ledger: Ledger, points: Mapping[FileKey, Collection[UUID]]) -> set[FileKey]:
    """Take files' points out of the index; those that other files share stay, without these files' locations.

    Returns:
        Files that are now the first location of a shared point, which still has another file's header: the ledger marks
        them to be indexed again.
    """
    every_heir: set[FileKey] = set()
    doomed: defaultdict[UUID, set[Location]] = defaultdict(set)
    for key, ids in points.items():
        for point in ids:
            doomed[point].add(Location(key.root, key.path))
    every = list(doomed)
    for start in range(0, len(every), DROP_POINTS):
        orphans, files_to_reindex, changed = [], [], {}
        for point, payload in index.retrieve(every[start : start + DROP_POINTS]).items():
            remaining = tuple(location for location in payload.locations if location not in doomed[point])
            if not remaining:
                orphans.append(point)
                continue
            changed[point] = replace(payload, locations=remaining)
            if remaining[0] != payload.locations[0]:  # now it speaks for the next file, whose header the next job reads
                directory, _, name = remaining[0].path.rpartition("/")
                files_to_reindex.append(heir := FileKey(remaining[0].root, directory, name))
                changed[point] = replace(changed[point], label=ledger.label(heir))
        ledger.mark_writing(files_to_reindex)
        every_heir.update(files_to_reindex)
        for point, payload in changed.items():
            index.set_payload(point, payload)
        if orphans:
            index.delete(orphans)
    return every_heir
