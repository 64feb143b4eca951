"""One file into rows, with a deadline; in this process, or in a process apart that may die of it."""

from __future__ import annotations

from typing import Any

from model.errors import ImageError, Reason
from model.images.frames import BrokenFrame
from model.images.reading import READ_ALL, ReadOptions, broken_file, read_each_frame
from model.images.sources import describe_error, file_system, is_local
from model.network.preparation import PAPER, AnyPreparation
from workers.guarded import GuardedProcess, ProcessLostError, deadline
from workers.indexing.rows import broken_row, frame_row, left_out_row

MAX_FRAMES = 20_000
"""Frames above which a file is left out: 1 GB of network input."""

Rows = list[dict[str, Any]]


def decode_file(
    number: int, address: str, seconds: float, options: ReadOptions = READ_ALL, prepare: AnyPreparation = PAPER
) -> Rows:
    """All rows of one file, one a frame, or the one row that says why it was left out.

    A frame that is broken is left out by its own row; a file of which all are is left out as a whole.

    This process is ended after ``seconds``, unless the caller cancels the deadline before.

    Args:
        number: of the file within its window.
        address: of the file; see :mod:`model.images.sources`.
        seconds: time that reading the file may take.
        options: how the file is read.
        prepare: makes the network's input of a frame.
    """
    rows: Rows = []
    first, whole = None, False
    try:
        if not is_local(address):
            deadline.cancel()
            file_system(address)  # reading the table of contents of an archive file is not this file's time
        deadline.set(seconds)
        for frame in read_each_frame(address, options=options):
            if frame.of > MAX_FRAMES:
                raise ImageError(address, Reason.TOO_LARGE, f"{frame.of:,} frames, limit {MAX_FRAMES:,}")
            if isinstance(frame, BrokenFrame):
                first = first or frame
                rows.append(broken_row(number, frame))
            else:
                whole = True
                rows.append(frame_row(number, frame, prepare(frame)))
        if first and not whole:
            raise broken_file(address, first)
    except ImageError as error:
        return [left_out_row(number, error.reason, error.detail)]
    except (MemoryError, OSError) as error:
        return [left_out_row(number, Reason.UNREADABLE, describe_error(error, address))]
    except Exception as error:  # a fault of the reader costs the file that shows it, not the job
        return [left_out_row(number, Reason.CRASHED, f"the reader failed: {type(error).__name__}")]
    return rows


class DecoderProcess(GuardedProcess):
    """A process apart that decodes file after file; its death or its hanging leaves one file out and nothing else."""

    def decode(
        self,
        number: int,
        address: str,
        seconds: float,
        options: ReadOptions = READ_ALL,
        prepare: AnyPreparation = PAPER,
    ) -> Rows:
        """As :func:`decode_file`."""
        try:
            return self.run(seconds, decode_file, number, address, seconds, options, prepare)
        except ProcessLostError as error:
            return [left_out_row(number, Reason.CRASHED, str(error))]
