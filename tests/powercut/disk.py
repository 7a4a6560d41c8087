"""A disk whose power can be cut: what was synchronized stays, of the rest anything may be there.

Every file is an image of what is durable, and the writes and truncations since its last
synchronization. At a cut each of those is lost, there, or torn into its sectors, in any order.
Names of files are durable when their directory was synchronized, and are lost or there before.
"""

from __future__ import annotations

import os
import random
import stat
from enum import Enum, auto, unique
from pathlib import Path
from typing import TypeAlias

__all__ = ["SECTOR", "Disk", "File", "PowerCut"]

SECTOR = 512
"""Bytes that are written as a whole or not at all."""

Write: TypeAlias = tuple[int, bytes | None]
"""Where and what; None: the file was cut to this size."""


class PowerCut(Exception):
    """The power has gone, and the program with it."""


@unique
class _Mood(Enum):
    """How a cut treats one file; independent fates alone would hardly ever lose just one write."""

    LOST = auto()
    THERE = auto()
    LAST_LOST = auto()
    FIRST_LOST = auto()
    ONE_TORN = auto()
    ANY = auto()


class File:
    """What a name stands for.

    Attributes:
        durable: What a cut cannot take away.
        pending: What was done since, in order.
    """

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[Write] = []

    def sync(self) -> None:
        """All that was done is durable."""
        for each in self.pending:
            self._apply(each, b"")
        self.pending.clear()

    def _apply(self, write: Write, filling: bytes) -> None:
        offset, data = write
        image = self.durable
        if data is None:
            del image[offset:]
        else:
            if offset > len(image):
                gap = offset - len(image)
                image += filling[:gap].ljust(gap, b"\0")
            image[offset : offset + len(data)] = data

    def settle(self, chance: random.Random) -> None:
        """What a cut makes of the file."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        mood = chance.choice(list(_Mood))
        # What stands in a part of a file that was never written is not said.
        filling = b"" if chance.random() < 0.5 else chance.randbytes(64) * 512
        torn = chance.randrange(len(pending)) if mood is _Mood.ONE_TORN else None
        done: list[Write] = []
        for index, write in enumerate(pending):
            if mood is _Mood.ANY:
                fate = chance.choice(("lost", "there", "torn"))
            elif index == torn:
                fate = "torn"
            else:
                fate = "lost" if mood is _Mood.LOST else "there"
                if index == (0 if mood is _Mood.FIRST_LOST else len(pending) - 1):
                    fate = "lost" if mood in _SPARE_ONE else fate
            if fate == "there" or (fate == "torn" and write[1] is None):
                done.append(write)
            elif fate == "torn":
                done += _torn(write[0], write[1] or b"", chance)
        if mood in (_Mood.ANY, _Mood.ONE_TORN):
            chance.shuffle(done)
        for write in done:
            self._apply(write, filling)


_SPARE_ONE = (_Mood.LAST_LOST, _Mood.FIRST_LOST)


def _torn(offset: int, data: bytes, chance: random.Random) -> list[Write]:
    """Some of the sectors of a write."""
    parts: list[Write] = []
    at, end = offset, offset + len(data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        if chance.random() < 0.5:
            parts.append((at, data[at - offset : until - offset]))
        at = until
    return parts


class Disk:
    """A directory whose files are kept as they would be after a cut.

    Args:
        directory: Where the files stand as programs see them.
        chance: Decides what a cut does.
        sector_size: What the disk says of itself.
        powersafe_overwrite: The same; without it SQLite fills its log up to the next sector. A
            torn write spoils nothing beside it here, whatever the disk says.

    Attributes:
        operations: How many writes, truncations, synchronizations and changes of names there were.
        is_cut: The power is off: nothing is written any more.
    """

    def __init__(
        self,
        directory: Path,
        chance: random.Random,
        *,
        sector_size: int = 4096,
        powersafe_overwrite: bool = True,
    ) -> None:
        self.directory = directory
        self.sector_size = sector_size
        self.powersafe_overwrite = powersafe_overwrite
        self.operations = 0
        self.is_cut = False
        self._chance = chance
        self._cut_at: int | None = None
        self._names: dict[str, File] = {}
        self._durable_names: dict[str, File] = {}
        self._name_changes: list[tuple[str, File | None]] = []

    # ------------------------------------------------------------ what programs do

    def opened(self, name: str) -> File:
        """The file of a name, made if there is none."""
        file = self._names.get(name)
        if file is None:
            file = self._names[name] = File()
            if not self.is_cut:
                self._name_changes.append((name, file))
                self._count()
        return file

    def delete(self, name: str) -> None:
        """Take a name away."""
        if self._names.pop(name, None) is not None and not self.is_cut:
            self._name_changes.append((name, None))
            self._count()

    def write(self, file: File, offset: int, data: bytes | None) -> None:
        """Write, or cut to a size (None)."""
        if not self.is_cut:
            file.pending.append((offset, data))
            self._count()

    def sync(self, file: File) -> None:
        """Make a file's contents durable."""
        if self._count():
            file.sync()

    def sync_directory(self) -> None:
        """Make names durable."""
        if self._count():
            for name, file in self._name_changes:
                _rename(self._durable_names, name, file)
            self._name_changes.clear()

    def fsync(self, descriptor: int) -> None:
        """In the place of `os.fsync`, which programs call for a directory."""
        assert stat.S_ISDIR(os.fstat(descriptor).st_mode)
        self.sync_directory()

    def _count(self) -> bool:
        """Another operation begins; whether it is also carried out for certain."""
        if not self.is_cut:
            self.operations += 1
            self.is_cut = self.operations == self._cut_at
        return not self.is_cut

    # ------------------------------------------------------------ the power

    def cut_after(self, operations: int) -> None:
        """Let the power go in the middle of an operation: after so many more were begun.

        Nobody is told: what is done from then on is done to no disk.
        """
        self._cut_at = self.operations + operations

    def cut(self) -> None:
        """The power goes now."""
        self.is_cut = True

    def restart(self) -> None:
        """The power is there again, and the directory holds what a cut has left."""
        names = self._durable_names
        for name, file in self._name_changes:
            if self._chance.random() < 0.5:
                _rename(names, name, file)
        self._name_changes.clear()
        for each in os.listdir(self.directory):
            if each not in names:
                os.unlink(self.directory / each)
        for name in sorted(names):
            names[name].settle(self._chance)
            (self.directory / name).write_bytes(names[name].durable)
        self._names = dict(names)
        self._cut_at = None
        self.is_cut = False


def _rename(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file
