from __future__ import annotations

import os
import signal
import threading

import pytest

from model.child_processes import ending_children


def test_while_children_are_ended_nothing_interrupts_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from jobs in the background
    with ending_children():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_a_thread_which_gets_no_signals_can_end_children_too() -> None:
    ended = []

    def end() -> None:
        with ending_children():
            ended.append(True)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert ended
