"""A journal in a thread of its own, for hosts that may not wait for their disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mqtt_sessions.changes import Change, Stored
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.journals.contract import Journal, JournalError, Quarantined

__all__ = ["ThreadedJournal"]


class ThreadedJournal:
    """Commits in a thread, one batch after the other, in the order in which they were handed over.

        future = journal.submit(changes)
        ...                                  # collect the next batch meanwhile
        await asyncio.wrap_future(future)    # or future.result(): now it is durable

    After the first batch that fails none is written, those that wait included: each of their
    futures has a `JournalError`.

    Args:
        journal: Any other; it is this one's from now on, and has to allow that its calls come from
            several threads, though never at once.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, "journal")
        self._failure: JournalError | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._journal!r})"

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What `load` has set aside."""
        return self._journal.quarantined

    def load(self) -> Iterator[Stored]:
        """All rows in force, read by the caller's own thread; see `Journal.load`."""
        return self._journal.load()

    def submit(self, batch: Sequence[Change]) -> Future[None]:
        """Hand a batch over, which may not be changed any more; its future is done when it is
        durable.

        *Cost* O(1) here.

        *State on error*: The future has a `JournalError`; see `Journal.commit`.
        """
        if self._is_closed:
            raise JournalError("the journal takes no more batches: it is closed")
        future: Future[None] = Future()
        # Nobody may cancel it any more: later batches rely on this one.
        future.set_running_or_notify_cancel()
        self._thread.submit(self._commit, batch, future)
        return future

    def commit(self, batch: Sequence[Change]) -> None:
        """Hand a batch over, and wait until it is durable; see `Journal.commit`."""
        self.submit(batch).result()

    def close(self) -> None:
        """Wait for all batches that were handed over, and give everything back."""
        self._is_closed = True
        self._thread.shutdown()
        self._journal.close()

    def _commit(self, batch: Sequence[Change], future: Future[None]) -> None:
        if self._failure is not None:
            refusal = JournalError(f"the journal takes no more batches: {self._failure}")
            refusal.__cause__ = self._failure
            future.set_exception(refusal)
            return
        try:
            self._journal.commit(batch)
        except JournalError as error:
            self._failure = error
            future.set_exception(error)
        except InvalidValue as error:  # later batches rely on it all the same
            self._failure = JournalError(f"a batch was not written: {error}")
            future.set_exception(error)
        except BaseException as error:
            self._failure = JournalError(f"a batch may not be durable: {error}")
            self._failure.__cause__ = error
            future.set_exception(self._failure)
        else:
            future.set_result(None)
