"""A SQLite VFS that tells a `Disk` what it does, and a journal that stands on it.

The journal is the library's own; only its connection is of another make (apsw, since the standard
library knows no VFS), so that its statements, pragmas and order of calls are what is tested.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

from mqtt_sessions.journals import JournalUnusable, SQLiteJournal
from tests.powercut.disk import Disk, File, PowerCut

__all__ = ["Drive"]

_NUMBERS = itertools.count(1)
_SYNCED_WITH_NAME = (
    apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
"""Files with whose first synchronization SQLite's own VFS for Unix synchronizes the directory."""


class Drive:
    """The journal's file on a disk, from one cut to the next.

    Args:
        disk: Where.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.path = disk.directory / "journal.db"
        self._vfs = _Vfs(f"power cut {next(_NUMBERS)}", disk)

    def open(self) -> SQLiteJournal:
        """The library's journal, on this disk.

        Raises:
            PowerCut: The power went meanwhile.
        """
        try:
            with (
                patch.object(sqlite3, "connect", self._connect),
                patch.object(os, "fsync", self.disk.fsync),
            ):
                journal = SQLiteJournal(self.path)
        except JournalUnusable as error:
            if self.disk.is_cut:
                raise PowerCut from error
            raise
        if self.disk.is_cut:
            journal.close()
            raise PowerCut
        return journal

    def close(self) -> None:
        """Let go of the VFS; all journals are closed."""
        self._vfs.unregister()

    def _connect(self, target: str, **_: Any) -> _Connection:
        assert target == f"{self.path.as_uri()}?mode=rwc"
        return _Connection(self.path, self._vfs)


# ---------------------------------------------------------------- like sqlite3's


class _Connection:
    """What a journal uses of a `sqlite3.Connection`, and whatever it calls ends with the power."""

    def __init__(self, path: Path, vfs: _Vfs) -> None:
        self._disk = vfs.disk
        self._is_closed = False
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self._real = self.call(apsw.Connection, str(path), flags, vfs.name, 256)

    def call(self, method: Callable[..., Any], *values: Any) -> Any:
        """Errors as `sqlite3` has them; one that nobody answers for where the power has gone."""
        try:
            result = method(*values)
        except apsw.Error as error:
            made = sqlite3.OperationalError(str(error))
            made.sqlite_errorcode = getattr(error, "extendedresult", apsw.SQLITE_IOERR)
            raise made from error
        if self._disk.is_cut:
            raise sqlite3.OperationalError("the power was cut")
        return result

    def execute(self, sql: str, values: Any = ()) -> _Cursor:
        return _Cursor(self, self.call(self._real.execute, sql, values))

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._disk.is_cut:  # nothing is moved to its place any more
            self._real.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._real.close(True)


class _Cursor:
    """What a journal uses of a `sqlite3.Cursor`."""

    def __init__(self, connection: _Connection, real: apsw.Cursor) -> None:
        self._connection = connection
        self._real = real

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def fetchall(self) -> list[Any]:
        rows: list[Any] = self._connection.call(self._real.fetchall)
        return rows

    def fetchone(self) -> Any:
        return self._connection.call(self._real.fetchone)


# ---------------------------------------------------------------- the VFS


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _OpenFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None, "the journal keeps what is temporary in memory"
        flags[1] = flags[0]
        return _OpenFile(self.disk, Path(path), flags[0])

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        os.unlink(filename)
        self.disk.delete(Path(filename).name)
        if syncdir:
            self.disk.sync_directory()


class _OpenFile:
    """Reads go to the file, writes to the file and to the disk's account."""

    def __init__(self, disk: Disk, path: Path, flags: int) -> None:
        self._disk = disk
        is_new = not path.exists()
        self._syncs_directory = is_new and bool(flags & _SYNCED_WITH_NAME)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._file: File = disk.opened(path.name)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return os.pread(self._descriptor, amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        data = bytes(data)
        os.pwrite(self._descriptor, data, offset)
        self._disk.write(self._file, offset, data)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        os.ftruncate(self._descriptor, size)
        self._disk.write(self._file, size, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.sync(self._file)
        if self._syncs_directory:
            self._disk.sync_directory()
            self._syncs_directory = False

    def xFileSize(self) -> int:  # noqa: N802
        return os.fstat(self._descriptor).st_size

    def xSectorSize(self) -> int:  # noqa: N802
        return self._disk.sector_size

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE if self._disk.powersafe_overwrite else 0

    def xClose(self) -> None:  # noqa: N802
        os.close(self._descriptor)

    # One process has the file, and the index of the log is in its memory: nobody is locked out.

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False
