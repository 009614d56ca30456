"""Files of a run: whole, inside its directory, by one process at a time."""

import errno
import os
import sys

import pytest
from forked import locked_elsewhere

from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory, disk_fault, locked, replacing, write_whole


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.json.partial").symlink_to(victim)
    with replacing(tmp_path / "a.json") as file:
        file.write(b"new")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "victim"]


def test_the_old_file_stays_where_writing_fails(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(TypeError), replacing(tmp_path / "a") as file:
        file.write(None)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_text_is_written_whole_and_no_link_is_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.csv").symlink_to(victim)
    write_whole(tmp_path / "a.csv", "é\r\n")
    assert victim.read_text() == "mine"
    assert (tmp_path / "a.csv").read_bytes() == b"\xc3\xa9\r\n"
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.csv", "\ud800")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "victim"]
    assert (tmp_path / "a.csv").read_bytes() == b"\xc3\xa9\r\n"


PLACES = ["tb", "metrics", "checkpoints", ".hydra", ".hydra/config.yaml", "metrics/search.csv.partial"]
PLACES += ["checkpoints/search.pt.partial", "summary.json.partial", "genotype.json", "supernet.log", "deep/down/x"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("there", [True, False])
def test_links_that_lead_out_are_refused(tmp_path, place, there):
    run, goal = tmp_path / "run", tmp_path / "goal"
    if there:
        goal.mkdir()
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(goal)
    with pytest.raises(InputError, match=f"{place} is a link to {goal}, out of this directory"):
        check_directory(run)


def test_links_inside_and_a_linked_run_are_fine(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "latest").symlink_to("checkpoints")
    (tmp_path / "newest").symlink_to(run)
    check_directory(run)
    check_directory(tmp_path / "newest")
    (run / "more").symlink_to("../run2")
    (tmp_path / "run2").mkdir()
    with pytest.raises(InputError, match="more is a link"):
        check_directory(run)


def test_links_to_nothing_and_folders_for_files_are_refused(tmp_path):
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(InputError, match="round is a link to nothing"):
        check_directory(tmp_path)
    (tmp_path / "round").unlink()
    (tmp_path / "job.log").mkdir()
    (tmp_path / ".hydra").write_text("")
    check_directory(tmp_path)
    with pytest.raises(InputError, match=r"job\.log is no file"):
        check_directory(tmp_path, files=("job.log",))
    with pytest.raises(InputError, match=r"\.hydra is no folder"):
        check_directory(tmp_path, folders=(".hydra",))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "supernet.log")
    with pytest.raises(InputError, match=r"supernet\.log is no file and no folder"):
        check_directory(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_one_process_at_a_time(tmp_path):
    refused = pytest.raises(InputError, match="another process is at work in it")
    with locked_elsewhere(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path) as reason:
        assert reason == ""


def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch):
    def no_lock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_lock)
    with locked(tmp_path) as reason:
        assert reason == "no lock there: No locks available"


def test_the_lock_follows_no_link_and_needs_a_place(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="cannot be written to"), locked(directory):
            pass
    assert not (tmp_path / "victim").exists()


def test_a_full_disk_is_found_behind_other_errors():
    full = OSError(errno.ENOSPC, "No space left on device", "x.pt")
    later = RuntimeError("PytorchStreamWriter failed")
    later.__context__ = full
    assert disk_fault(later) == "No space left on device: x.pt"
    assert disk_fault(ValueError("I/O error: No space left on device (os error 28)")) == "No space left on device"
    assert disk_fault(FileNotFoundError(errno.ENOENT, "No such file", "y")) == ""
