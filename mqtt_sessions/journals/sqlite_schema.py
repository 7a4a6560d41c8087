"""The file of a SQLite journal: its tables, how it is told from other files, how it is opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from mqtt_sessions.journals.contract import JournalUnusable

__all__ = [
    "CHECKPOINT_PAGES",
    "FORMAT_VERSION",
    "KEYS",
    "MIGRATIONS",
    "MOST_LOG",
    "PAGE_SIZE",
    "TABLES",
    "Migration",
    "index_of",
    "open_file",
    "reason_of",
    "sync_directory",
    "text_or_bytes",
    "wal_of",
]

APPLICATION_ID = 0x4D515453
"""`MQTS`, in the header of every such file."""

FORMAT_VERSION = 1
"""Of the tables and of what stands in them; it is the file's `user_version`."""

PAGE_SIZE = 8192
"""Bytes; a page takes forty queued messages, and a larger one is written again as often."""

CHECKPOINT_PAGES = 1000
"""Pages of the log, about, after which all of them are moved to their places."""

KEPT_LOG = 2 * CHECKPOINT_PAGES * PAGE_SIZE
"""Bytes to which the log is cut back when it begins anew; what is kept is written much faster."""

MOST_LOG = 2 * KEPT_LOG
"""Bytes of the log after which its pages are moved in any case."""

CACHE_SIZE = 16 * 1024
"""KiB of pages that are held."""

Migration = Callable[[sqlite3.Connection], None]
"""Makes a file of one version that of the next, inside of a transaction that is begun and ended
around it."""

MIGRATIONS: dict[int, Migration] = {}
"""By the version that a file has, each leads to the next one."""

TABLES: Mapping[str, str] = {
    "epoch": "epoch INTEGER PRIMARY KEY, started_at REAL, alive_at REAL",
    "ids": "only INTEGER PRIMARY KEY, below INTEGER",
    "session": (
        "session_id INTEGER PRIMARY KEY, client_id TEXT, epoch INTEGER, connected INTEGER, "
        "protocol_version INTEGER, principal TEXT, expiry_interval REAL, expires_at REAL, "
        "packet_ids_until INTEGER, policy TEXT, limits TEXT"
    ),
    "subscription": (
        "session_id INTEGER, topic_filter TEXT, options INTEGER, subscription_id INTEGER, "
        "PRIMARY KEY (session_id, topic_filter)"
    ),
    "inbound": (
        "session_id INTEGER, packet_id INTEGER, ends_at REAL, PRIMARY KEY (session_id, packet_id)"
    ),
    "replay": "session_id INTEGER PRIMARY KEY, replay TEXT",
    "will": (
        "client_id TEXT PRIMARY KEY, due_at REAL, epoch INTEGER, will_delay_interval INTEGER, "
        "policy TEXT, body BLOB"
    ),
    "retained": "topic_name TEXT PRIMARY KEY, body BLOB",
    # Append layout: identifiers rise with each commit, and no other index has to be kept.
    "message": "message_id INTEGER PRIMARY KEY, body BLOB",
    "delivery": "delivery_id INTEGER PRIMARY KEY, session_id INTEGER, body BLOB",
    "exchange": (
        "session_id INTEGER, packet_id INTEGER, place INTEGER, delivery_id INTEGER, "
        "is_abandoned INTEGER, PRIMARY KEY (session_id, packet_id)"
    ),
}
"""Columns of each table of rows, in the order in which they are loaded."""

KEYS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.partition("PRIMARY KEY (")[2].rstrip(")").split(", "))
    if "PRIMARY KEY (" in columns
    else (columns.partition(" ")[0],)
    for table, columns in TABLES.items()
}
"""Columns that name a row, which are the first of its table."""

# Where the key is more than a number the table is its own index, so that nothing is kept twice.
_OWN_INDEX = {"subscription", "inbound", "will", "retained", "exchange"}

_QUARANTINE = (
    "CREATE TABLE quarantine (number INTEGER PRIMARY KEY, source TEXT, name TEXT, reason TEXT, "
    "columns TEXT)"
)


def text_or_bytes(text: bytes) -> str | bytes:
    """A text as it is read; damaged bytes must not end the reading of all rows."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def index_of(path: Path) -> Path:
    """The index of that log, which only those who look at a file share."""
    return Path(f"{path}-shm")


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a file."""
    return Path(f"{path}-wal")


def open_file(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open a journal's file, make it if there is none, and bring it to this format.

    Raises:
        JournalUnusable: With the file, what is wrong, and what can be done.
    """
    _check_place(path, read_only=read_only)
    is_new = not path.exists()
    mode = "mode=rwc"
    if read_only:
        # Whoever has it open has a log beside it. Without one there is nothing to wait for, and
        # not even an empty log has to be made.
        mode = "mode=ro" if wal_of(path).exists() else "immutable=1"
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.text_factory = text_or_bytes
        if read_only:
            version = _check_format(connection, path)
            if version is None:
                hint = "; has it lost its log (-wal)?" if path.stat().st_size else ""
                raise JournalUnusable(f"{path} is empty{hint}")
            if version < FORMAT_VERSION:
                raise JournalUnusable(
                    f"{path} is a session journal of format {version}, which is read once it has "
                    f"been brought to {FORMAT_VERSION}; open it to write"
                )
        else:
            _prepare(connection, path)
            if is_new:
                sync_directory(path.absolute().parent)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise JournalUnusable(reason_of(path, error)) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check_place(path: Path, *, read_only: bool) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise JournalUnusable(f"{path}: there is no directory {parent}; make it first")
    if path.is_dir():
        raise JournalUnusable(f"{path} is a directory; name a file in it")
    if path.exists():
        if not os.access(path, os.R_OK if read_only else os.R_OK | os.W_OK):
            raise JournalUnusable(f"{path}: {_REASONS[sqlite3.SQLITE_PERM]}")
    elif read_only:
        raise JournalUnusable(f"{path}: there is no such file")
    if not os.access(parent, os.W_OK) and not (read_only and not wal_of(path).exists()):
        raise JournalUnusable(
            f"{path}: nothing can be made in {parent}, where its log has to stand; check who may"
        )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Everything that has to be so before the first row is read or written."""
    # Before anything is read: then the log's index is in memory, and no other process gets in.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    version = _check_format(connection, path)
    connection.execute("BEGIN EXCLUSIVE")  # a file that cannot be written is found here
    connection.execute("COMMIT")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalUnusable(f"{path}: its file system cannot have a write-ahead log")
    for pragma in (
        "synchronous = FULL",  # the log is synchronized with each commit
        "wal_autocheckpoint = 0",  # an error in that one would not be told
        f"journal_size_limit = {KEPT_LOG}",
        f"cache_size = -{CACHE_SIZE}",
        "secure_delete = OFF",  # some builds overwrite what they delete
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if version is None:
        _create(connection)
    elif version < FORMAT_VERSION:
        _migrate(connection, path, version)


def _check_format(connection: sqlite3.Connection, path: Path) -> int | None:
    """The version of a journal's file; None for an empty one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        (things,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or things:
            raise JournalUnusable(
                f"{path} is no session journal but a database of something else; name another file"
            )
        return None
    assert isinstance(version, int)
    if version > FORMAT_VERSION or (
        version < FORMAT_VERSION
        and any(each not in MIGRATIONS for each in range(version, FORMAT_VERSION))
    ):
        raise JournalUnusable(
            f"{path} is a session journal of format {version}, and this release knows formats up "
            f"to {FORMAT_VERSION}; use the release that wrote it, or a later one"
        )
    return version


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    for table, columns in TABLES.items():
        own_index = " WITHOUT ROWID" if table in _OWN_INDEX else ""
        connection.execute(f"CREATE TABLE {table} ({columns}){own_index}")
    connection.execute(_QUARANTINE)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    connection.execute("BEGIN")
    for each in range(version, FORMAT_VERSION):
        MIGRATIONS[each](connection)
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable; SQLite does so for those of its logs only."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # where directories are no files, their entries are durable by themselves
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_REASONS = {
    sqlite3.SQLITE_BUSY: "it is held by another process, or by another journal of this one; end "
    "that first",
    sqlite3.SQLITE_PERM: "it cannot be read and written; check who may",
    sqlite3.SQLITE_READONLY: "it cannot be written; check its file system",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check who may read and write it",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it",
    sqlite3.SQLITE_NOTADB: "it is no session journal, nor any database; name another file",
    sqlite3.SQLITE_CORRUPT: "its pages are damaged; keep a copy, and see what the command "
    "`.recover` of the program `sqlite3` can read",
}


def reason_of(path: Path, error: Exception) -> str:
    """What an error of SQLite means for who runs the broker."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension
    return f"{path}: {_REASONS.get(code, 'SQLite cannot use it')} ({error})"
