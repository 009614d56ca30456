import gzip
import os

import pytest

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder, read_text, why_no_file


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "", "absent", "file/below", "loop", "/dev/zero", "fifo"])
def test_what_is_no_file_is_none_whatever_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    assert not is_file(name)
    with pytest.raises(InputError, match=r"^thing: (no such file|a folder|not a regular file)$"):
        read_text(name, "thing", 10)
    assert [why_no_file(n) for n in ("file", ".", "fifo", "x" * 300)] == [
        "",
        "a folder",
        "not a regular file",
        "no such file",
    ]
    assert (is_file("file"), is_folder("."), is_folder("file"), is_folder("x" * 300)) == (True, True, False, False)


def test_text_is_read_up_to_its_limit_and_unpacked(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffgrün".encode())
    assert read_text(tmp_path / "a", "thing", 8) == "grün"
    with pytest.raises(InputError, match="thing: more than"):
        read_text(tmp_path / "a", "thing", 7)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"grey"))
    assert read_text(tmp_path / "a.gz", "thing", 4) == "grey"
    for name, content in (("b.gz", b"no gzip"), ("c.gz", gzip.compress(b"grey")[:-6]), ("d", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="thing: cannot be read as text"):
            read_text(tmp_path / name, "thing", 100)
    with pytest.raises(InputError, match=r"\(UnicodeDecodeError\); save it as UTF-8"):
        read_text(tmp_path / "d", "thing", 100)
