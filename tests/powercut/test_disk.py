"""The disk keeps what it has to keep, and does everything else that it may."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.powercut.disk import SECTOR, Disk

OLD = b"o" * (4 * SECTOR)
NEW = b"n" * (4 * SECTOR)


def after_a_cut(directory: Path, act: Callable[[Disk], None]) -> set[bytes | None]:
    """What a file can hold after a cut that came behind some acts; None: it is not there."""
    found: set[bytes | None] = set()
    for seed in range(300):
        disk = Disk(directory, random.Random(seed))
        act(disk)
        disk.cut()
        disk.restart()
        path = directory / "file"
        found.add(path.read_bytes() if path.exists() else None)
    return found


def durable(disk: Disk, content: bytes) -> None:
    file = disk.opened("file")
    disk.write(file, 0, content)
    disk.sync(file)
    disk.sync_directory()


def test_what_was_synchronized_stays(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, OLD)
        file = disk.opened("file")
        disk.write(file, SECTOR, b"new")
        disk.write(file, 3 * SECTOR, None)
        disk.sync(file)

    want = OLD[:SECTOR] + b"new" + OLD[SECTOR + 3 : 3 * SECTOR]
    assert after_a_cut(tmp_path, act) == {want}


def test_a_write_is_lost_there_or_torn_into_sectors(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, OLD)
        disk.write(disk.opened("file"), 0, NEW)

    found = after_a_cut(tmp_path, act)
    assert len(found) == 2**4  # each sector old or new
    assert {OLD, NEW} < found
    for each in found:
        assert each is not None
        assert {each[at : at + SECTOR] for at in range(0, len(each), SECTOR)} <= {
            OLD[:SECTOR],
            NEW[:SECTOR],
        }


def test_of_several_writes_a_later_one_may_be_there_alone(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, b"--")
        disk.write(disk.opened("file"), 0, b"1")
        disk.write(disk.opened("file"), 1, b"2")

    assert after_a_cut(tmp_path, act) == {b"--", b"1-", b"-2", b"12"}


def test_writes_of_one_place_come_in_any_order(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, b"-")
        disk.write(disk.opened("file"), 0, b"1")
        disk.write(disk.opened("file"), 0, b"2")

    assert after_a_cut(tmp_path, act) == {b"-", b"1", b"2"}


def test_a_file_may_be_cut_short_or_not(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, b"long")
        disk.write(disk.opened("file"), 1, None)

    assert after_a_cut(tmp_path, act) == {b"long", b"l"}


def test_what_a_file_holds_where_nothing_was_written_is_not_said(tmp_path: Path) -> None:
    def act(disk: Disk) -> None:
        durable(disk, b"")
        disk.write(disk.opened("file"), 4, b"end")

    found = after_a_cut(tmp_path, act)
    assert {b"", b"\0\0\0\0end"} < found
    assert all(each == b"" or (each and each[4:] == b"end") for each in found)
    assert len(found) > 10


def test_a_name_is_durable_when_its_directory_is(tmp_path: Path) -> None:
    def made(disk: Disk) -> None:
        file = disk.opened("file")
        disk.write(file, 0, b"x")
        disk.sync(file)

    def deleted(disk: Disk) -> None:
        durable(disk, b"x")
        (disk.directory / "file").unlink(missing_ok=True)
        disk.delete("file")

    def gone(disk: Disk) -> None:
        deleted(disk)
        disk.sync_directory()

    assert after_a_cut(tmp_path, made) == {None, b"x"}
    assert after_a_cut(tmp_path, deleted) == {None, b"x"}
    assert after_a_cut(tmp_path, gone) == {None}


@pytest.mark.parametrize("operations", [1, 2, 3, 4])
def test_the_power_goes_in_an_operation_that_may_be_carried_out(
    operations: int, tmp_path: Path
) -> None:
    def act(disk: Disk) -> None:
        durable(disk, b"-")
        disk.cut_after(operations)
        file = disk.opened("file")
        for number in (b"1", b"2"):
            disk.write(file, 0, number)
            disk.sync(file)
        assert disk.is_cut

    assert (
        after_a_cut(tmp_path, act)
        == {
            1: {b"-", b"1"},
            2: {b"-", b"1"},
            3: {b"1", b"2"},
            4: {b"1", b"2"},
        }[operations]
    )
