"""Growing landing files, and their content after a crash or a disk failure."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from boat import landing
from boat.collect import Journal

LINE = b'{"event_time": 1790000000, "event_type": "pageview", "client_id": "c"}\n'


def complete(root: Path) -> list[bytes]:
    """Return the contents of the event files that are visible to the loader."""
    files, ignored = landing.discover(root.parent)
    assert ignored == ()
    return [file.path.read_bytes() for file in files if not file.name.endswith("-failed.ndjson")]


def test_lines_are_hidden_from_the_loader_until_the_file_is_complete(tmp_path: Path) -> None:
    root = tmp_path / "events"
    journal = Journal(root)
    journal.append(LINE, b"")
    journal.append(LINE, b'{"reason": "missing"}\n')
    assert complete(root) == []
    journal.close()
    assert complete(root) == [LINE * 2]
    (letters,) = (root / ".dead-letter").glob("*/*.ndjson")
    assert letters.read_bytes() == b'{"reason": "missing"}\n'


def test_a_file_is_completed_at_its_largest_size_or_age(tmp_path: Path) -> None:
    by_size = Journal(tmp_path / "size" / "events", max_bytes=2 * len(LINE))
    for _ in range(5):
        by_size.append(LINE, b"")
    assert complete(tmp_path / "size" / "events") == [LINE * 2] * 2
    by_age = Journal(tmp_path / "age" / "events", max_seconds=0)
    by_age.append(LINE, b"")
    assert complete(tmp_path / "age" / "events") == [LINE]


def test_a_journal_without_lines_leaves_no_file(tmp_path: Path) -> None:
    Journal(tmp_path / "events").close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_next_process_completes_files_of_a_dead_one_and_cuts_a_torn_line(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from boat.collect import Journal
journal = Journal(Path({str(tmp_path)!r}, "events"))
journal.append({LINE!r} * 3, b"")
os.write(next(iter(journal._files.values())).descriptor, {LINE[:40]!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    root = tmp_path / "events"
    assert complete(root) == []
    assert len(Journal(root).recovered) == 1
    assert complete(root) == [LINE * 3]
    assert Journal(root).recovered == ()


def test_a_long_torn_line_is_cut_and_a_file_without_other_lines_is_deleted(tmp_path: Path) -> None:
    left = tmp_path / "events" / ".open"
    left.mkdir(parents=True)
    (left / "20260921T141320-aa.ndjson").write_bytes(LINE + b"x" * 200_000)
    (left / "20260921T141320-bb.ndjson").write_bytes(b"x" * 200_000)
    Journal(tmp_path / "events")
    assert complete(tmp_path / "events") == [LINE]
    assert list(left.iterdir()) == []


def test_processes_can_share_a_folder(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "events"), Journal(tmp_path / "events")
    first.append(LINE, b"")
    third = Journal(tmp_path / "events")
    assert third.recovered == ()
    second.append(LINE, b"")
    for journal in (first, second, third):
        journal.close()
    assert complete(tmp_path / "events") == [LINE, LINE]


def test_a_full_disk_fails_only_the_lines_that_do_not_fit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events")
    journal.append(LINE, b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so the write fails with EFBIG.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(LINE) + 10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(LINE * 3, b"")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert complete(tmp_path / "events") == [LINE]
    journal.append(LINE * 2, b"")
    journal.close()
    assert sorted(complete(tmp_path / "events")) == [LINE, LINE * 2]


def test_only_owner_and_group_can_read_files(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events")
    journal.append(LINE, b"")
    journal.close()
    (path,) = (tmp_path / "events").glob("2*/*.ndjson")
    assert os.stat(path).st_mode & 0o007 == 0
