"""Where pictures come from: folders, patterns, and a server on this machine that behaves in all the ways one can."""

import contextlib
import http.server
import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.deployment.pictures import Pictures
from supernet.deployment.sources import spread
from supernet.deployment.web import fetched
from supernet.runtime.errors import InputError


def picture(height=6, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header(
                "Location", {"/to/file": "file:///etc/passwd", "/to/a": "/a.png", "/to/ftp": "ftp://x/a"}[self.path]
            )
            self.end_headers()
            return
        quoted = "/a%20b%C3%BC.png?x=%C3%BC&y=1"
        content = {
            "/a.png": png(picture()),
            quoted: png(picture()),
            "/none.png": b"no picture",
            "/large": b"x" * 3_000_000,
        }.get(self.path)
        self.send_response(200 if content else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_picture_from_the_web_is_as_the_file(server):
    for address in (f"{server}/a.png", f"{server}/to/a"):
        ((pictures, pixels),) = Pictures((3, 6, 9)).batches(address)
        assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), picture())
        assert np.array_equal(pictures[0].original(), picture())
        assert (pictures[0].path, pictures[0].shape) == (address, (6, 9))
    assert pictures[0].file_name == "a"


def test_an_address_may_be_written_as_browsers_show_it(server):
    for place in ("/a b\u00fc.png?x=\u00fc&y=1", "/a%20b%C3%BC.png?x=%C3%BC&y=1#part"):
        ((pictures, _),) = Pictures((3, 6, 9)).batches(server + place)
        assert pictures[0].path == server + place
        assert np.array_equal(pictures[0].original(), picture())


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("/absent.png", "the server says 404"),
        ("/to/file", "is not allowed"),
        ("/to/ftp", "neither http nor https"),
        ("/none.png", "none.png: not a readable image"),
    ],
)
def test_what_is_no_picture_is_one_line_that_names_the_address(server, place, says):
    with pytest.raises(InputError, match=says) as error:
        list(Pictures((3, 6, 9)).batches(server + place))
    assert str(error.value).startswith(server)
    assert "\n" not in str(error.value)
    assert "tmp" not in str(error.value)


def test_a_picture_that_is_too_large_is_not_fetched_to_its_end(server):
    assert len(fetched(f"{server}/large").raw) == 3_000_000
    with pytest.raises(InputError, match="more than 1 MiB"):
        fetched(f"{server}/large", most=1 << 20)
    with pytest.raises(InputError, match="not here after -1 s"):
        fetched(f"{server}/large", deadline=-1)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:1/a.png", "cannot be fetched .*is there a network"),
        ("http:///a.png", "cannot be fetched"),
        ("http://[::1/a.png", "cannot be fetched"),
        ("file:///etc/passwd", "file is not read"),
        ("ftp://127.0.0.1/a.png", "ftp is not read"),
        ("rtsp://127.0.0.1/stream", "rtsp is not read"),
    ],
)
def test_without_a_network_or_by_another_way(address, says):
    with pytest.raises(InputError, match=says) as error:
        list(Pictures((3, 6, 9)).batches(address))
    assert "\n" not in str(error.value)


def test_patterns_and_folders_become_their_pictures(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.png", "deep/c.png", "[x].png"):
        Image.fromarray(picture()).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("no picture")
    names = [path.name for path in spread([f"{tmp_path}/*", f"{tmp_path}/**/c.png", tmp_path / "deep"])]
    assert names == ["[x].png", "a.png", "b.png", "c.png", "c.png"]
    assert list(spread(f"{tmp_path}/[x].png")) == [f"{tmp_path}/[x].png"]  # a file comes before a pattern
    assert [path.name for path in spread(tmp_path / "?.png")] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="no image matches this pattern"):
        list(spread(f"{tmp_path}/*.jpg"))


def test_all_sorts_together_keep_their_order_and_their_sizes(tmp_path):
    Image.fromarray(picture(4, 5)).save(tmp_path / "a.png")
    given = [tmp_path / "a.png", [picture(7, 8), Image.fromarray(picture(9, 3))], np.zeros((2, 5, 5, 3), np.uint8)]
    ((pictures, pixels),) = Pictures((3, 6, 6)).batches(given)
    assert [each.shape for each in pictures] == [(4, 5), (7, 8), (9, 3), (5, 5), (5, 5)]
    assert [each.number for each in pictures] == [0, 1, 2, 3, 4]
    assert pixels.shape == (5, 3, 6, 6)
    assert [each.file_name for each in pictures[:2]] == ["a.png", "image1.png"]
    for each, prepared in zip(pictures, pixels, strict=True):
        assert np.array_equal(each.prepared().numpy(), prepared.numpy())


def test_what_cannot_be_read_is_left_out_where_there_is_more(tmp_path, caplog):
    Image.fromarray(picture()).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    given = [tmp_path, str(tmp_path / "*.jpg"), tmp_path / "none.png"]
    with pytest.raises(InputError, match=r"a\.png"):
        list(Pictures((3, 6, 9)).batches(given))
    lenient = Pictures((3, 6, 9), skip_unreadable=True)
    ((seen, _),) = lenient.batches(given)
    assert [(each.file_name, each.number) for each in seen] == [("b.png", 0)]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["3 of 4 pictures left out"]
    with pytest.raises(InputError, match=r"a\.png"):  # there is nothing else
        list(lenient.batches([tmp_path / "a.png"]))


def test_a_generator_is_asked_for_no_more_than_a_batch_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("supernet.deployment.pictures._MOST_IMAGES", 2)
    asked = []

    def frames():
        for number in range(5):
            asked.append(number)
            yield picture(seed=number)

    batches = Pictures((3, 6, 9)).batches(frames())
    assert np.array_equal(next(batches)[1][1].permute(1, 2, 0).numpy(), picture(seed=1))
    assert asked == [0, 1]
    assert sum(len(pixels) for _, pixels in batches) == 3
    Image.fromarray(picture()).save(tmp_path / "a.png")
    for several in (tmp_path.glob("*.png"), map(str, [tmp_path / "a.png"]), iter([[tmp_path]])):
        assert len(list(Pictures((3, 6, 9)).batches(several))) == 1
    with (tmp_path / "a.png").open("rb") as file, pytest.raises(InputError, match="not BufferedReader"):
        list(Pictures((3, 6, 9)).batches(file))


def opened(tmp_path, kind):
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    if kind == "empty":
        return Image.new("RGB", (0, 5))
    if kind == "cut":
        (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    image = Image.open(tmp_path / "a.png")
    if kind == "closed":
        image.close()
    return image


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("cut", r"a\.png: not a readable image \(.*\); open it again, or leave it out"),
        ("closed", r"a\.png: not a readable image"),
        ("empty", "image: 0 x 5, which holds no pixels"),
    ],
)
def test_a_picture_of_pillow_that_cannot_be_read_is_as_such_a_file(kind, says, tmp_path, caplog):
    with contextlib.closing(opened(tmp_path, kind)) as image:
        with pytest.raises(InputError, match=says):
            list(Pictures((3, 6, 9)).batches(image))
        ((few, _),) = Pictures((3, 6, 9), skip_unreadable=True).batches([image, picture()])
    assert len(few) == 1
    assert "1 of 2 pictures left out" in caplog.text


def test_arrays_of_another_order_are_told_the_right_one():
    with pytest.raises(InputError, match=r"has 9 channels, the network wants 3; arrays are \(H, W, C\), tensors"):
        list(Pictures((3, 6, 9)).batches(picture().transpose(2, 0, 1)))
    with pytest.raises(InputError, match=r"not int64; .* array\.astype\('uint8'\) where its levels go from 0 to 255"):
        list(Pictures((3, 6, 9)).batches(picture().astype(int)))


def test_what_is_given_may_be_closed_or_used_again(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    reader, buffer = Pictures((3, 6, 9)), torch.zeros(3, 6, 9, dtype=torch.uint8)

    def frames():
        for level in (7, 8):
            yield buffer.fill_(level)

    ((few, pixels),) = reader.batches(frames())
    buffer.fill_(9)
    assert pixels.amax((1, 2, 3)).tolist() == [7, 8]
    assert [int(each.original().max()) for each in few] == [7, 8]
    with Image.open(tmp_path / "a.png") as image:
        ((few, pixels),) = reader.batches(image)
    assert np.array_equal(few[0].original(), picture())
    assert torch.equal(few[0].prepared(), pixels[0])
