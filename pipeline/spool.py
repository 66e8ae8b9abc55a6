"""Rows of a ledger on disk, in a file without a name that is gone when the process is.

A SQLite database: rows can be found and taken back, and memory holds a cache of 2 MB however many there are. Values are
float64 in the order of the row's names; rows have few different sets of names, and each is kept once, in memory.
About 0.3 KB a row.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.row import Row

__all__ = ["ERRORS", "Spool"]

ERRORS = (OSError, sqlite3.Error, OverflowError)
"""What `put` raises where the disk is full or cannot be written; nothing was written then."""
FIRST = -(2**63)
SCHEMA = (
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, frame_id INTEGER, pts_ns INTEGER, status TEXT, names INTEGER, "
    "measured BLOB)",
    "CREATE INDEX frames ON rows (frame_id, number)",
)
COLUMNS = "frame_id, pts_ns, status, names, measured, number"

_Stored = tuple[int, int, str, int, bytes, int]


class Spool:
    """Settled rows by their number; for one thread at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        """In `folder`, or where the system keeps temporary files. Raises one of ERRORS where neither can be written."""
        self._database = _database(folder)
        for statement in ("PRAGMA journal_mode = MEMORY", "PRAGMA synchronous = OFF", *SCHEMA):
            self._database.execute(statement)
        self._names: list[tuple[str, ...]] = []
        self._places: dict[tuple[str, ...], int] = {}
        self._highest = FIRST
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        if hasattr(self, "_database"):
            self._database.close()

    def put(self, rows: Collection[Row]) -> None:
        """Write these rows, or none of them."""
        with self._transaction():
            self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", map(self._stored, rows))
        self._count += len(rows)
        self._highest = max(self._highest, *(row.frame_id for row in rows))

    def newest(self, frame_id: int) -> Row | None:
        """The row of that frame; of several, the one that arrived last."""
        if not self._count or frame_id > self._highest:
            return None
        found = self._rows("WHERE frame_id = ? ORDER BY number DESC LIMIT 1", frame_id)
        return found[0] if found else None

    def remove(self, rows: Collection[Row]) -> None:
        """These are no longer kept here."""
        with self._transaction():
            self._database.executemany("DELETE FROM rows WHERE number = ?", [(row.number,) for row in rows])
        self._count -= len(rows)

    def oldest(self, most: int) -> list[Row]:
        """At most so many rows, in order of arrival."""
        return self._rows("ORDER BY number LIMIT ?", most)

    def after(self, frame_id: int, number: int, most: int) -> list[Row]:
        """At most so many rows, by frame_id and number, that come after these."""
        return self._rows("WHERE (frame_id, number) > (?, ?) ORDER BY frame_id, number LIMIT ?", frame_id, number, most)

    def _stored(self, row: Row) -> tuple[int, int, int, str, int, bytes]:
        names = tuple(row.values)
        place = self._places.get(names)
        if place is None:
            place = self._places[names] = len(self._names)
            self._names.append(names)
        return row.number, row.frame_id, row.pts_ns, row.status, place, array("d", row.values.values()).tobytes()

    def _rows(self, which: str, *values: int) -> list[Row]:
        return [self._row(*stored) for stored in self._database.execute(f"SELECT {COLUMNS} FROM rows {which}", values)]

    def _row(self, frame_id: int, pts_ns: int, status: str, names: int, measured: bytes, number: int) -> Row:
        return Row(frame_id, pts_ns, status, dict(zip(self._names[names], array("d", measured), strict=True)), number)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # where the disk is full, SQLite has rolled back by itself
                self._database.execute("ROLLBACK")
            raise


def _database(folder: Path | None) -> sqlite3.Connection:
    """The name is removed as soon as the file is open. SQLite's own temporary files are in /var/tmp, if that exists."""
    if folder is not None:
        with suppress(OSError, sqlite3.Error):
            handle, path = tempfile.mkstemp(prefix=".frames-", dir=folder)
            os.close(handle)
            try:
                return _connected(path)
            finally:
                os.unlink(path)
    return _connected("")


def _connected(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA user_version").fetchone()
    return database
