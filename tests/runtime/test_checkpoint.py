import io
import os
import pickle
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from supernet.runtime.checkpoint import FORMAT, VERSION, Checkpoint
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import seed_everything


class Counter:
    """The smallest stateful part."""

    def __init__(self, value=0):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


class Training:
    """A tiny training whose every step draws from all three global generators."""

    def __init__(self, path):
        seed_everything(0)
        self.network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.adam = torch.optim.Adam([self.network[0].bias], lr=0.01)
        self.counter = Counter()
        parts = {"network": self.network, "sgd": self.optimizer, "adam": self.adam, "counter": self.counter}
        self.checkpoint = Checkpoint(path, {"space": "tiny", "lr": 0.1}, parts)

    def steps(self, count):
        for _ in range(count):
            scale = random.random() + np.random.standard_normal()  # noqa: NPY002
            loss = (self.network(torch.randn(8, 4)) * scale).square().mean()
            self.network.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.adam.step()
            self.counter.value += 1


def write(path, **changes):
    content = {"format": FORMAT, "version": VERSION, "fingerprint": {}, "parts": {}, "random": {}} | changes
    torch.save(content, path)


def the_error(path, fingerprint=None, parts=None):
    with pytest.raises(InputError) as caught:
        Checkpoint(path, fingerprint or {}, parts or {}).load()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "delete the file or use another run directory" in message
    return message


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_resumed_run_is_bitwise_equal(tmp_path, stop):
    whole = Training(None)
    whole.steps(6)

    first = Training(tmp_path / "deep" / "run.pt")
    first.steps(stop)
    first.checkpoint.save()
    first.steps(2)  # work after the last save is lost, and must leave no trace

    second = Training(tmp_path / "deep" / "run.pt")
    assert second.checkpoint.load()
    second.steps(6 - second.counter.value)

    assert second.counter.value == 6
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_the_pending_gaussian_of_numpy_is_restored(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt", {}, {})
    np.random.standard_normal()  # noqa: NPY002 - the second of the pair stays pending
    checkpoint.save()
    expected = np.random.standard_normal(3)  # noqa: NPY002
    assert checkpoint.load()
    assert np.array_equal(np.random.standard_normal(3), expected)  # noqa: NPY002


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_generators_are_restored(tmp_path):
    torch.rand(1, device="cuda")
    checkpoint = Checkpoint(tmp_path / "run.pt", {}, {})
    checkpoint.save()
    expected = torch.rand(3, device="cuda")
    assert checkpoint.load()
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_without_a_path_nothing_happens():
    checkpoint = Checkpoint(None, {}, {"counter": Counter()})
    checkpoint.save()
    assert not checkpoint.load()


def test_without_a_file_there_is_nothing_to_load(tmp_path):
    assert not Checkpoint(tmp_path / "none.pt", {}, {}).load()


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("inside_a_torch_file", [False, True])
def test_a_pickle_payload_is_refused_and_never_run(tmp_path, inside_a_torch_file):
    path, target = tmp_path / "run.pt", tmp_path / "touched"
    if inside_a_torch_file:
        write(path, parts={"counter": Payload(target)})
    else:
        path.write_bytes(pickle.dumps(Payload(target)))
    the_error(path)
    assert not target.exists()
    if inside_a_torch_file:  # the payload is real: a reader that trusts it does run it
        torch.load(path, weights_only=False)
        assert target.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "run.pt"
    Checkpoint(path, {}, {"network": nn.Linear(50, 50)}).save()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    the_error(path, parts={"network": nn.Linear(50, 50)})


def test_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    network = nn.Linear(50, 50)
    Checkpoint(path, {}, {"network": network}).save()
    content = bytearray(path.read_bytes())
    place = content.index(network.weight.detach().numpy().tobytes()[:64])
    content[place] ^= 1
    path.write_bytes(content)
    assert "damaged" in the_error(path, parts={"network": network})


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path):
    """A thousand times as much could be in it."""
    path = tmp_path / "run.pt"
    write(path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    (tmp_path / "packed").rename(path)
    assert "damaged or not a checkpoint" in the_error(path)


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    path.write_text("hello")
    the_error(path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    assert FORMAT in the_error(path)
    torch.save(torch.zeros(3), path)
    assert FORMAT in the_error(path)
    np.savez(path.open("wb"), a=np.zeros(3))
    assert "damaged or not a checkpoint" in the_error(path)
    write(path, version=99)
    assert "version 99" in the_error(path)


def test_another_fingerprint_is_refused_with_the_key_and_both_values(tmp_path):
    path = tmp_path / "run.pt"
    counter = Counter(5)
    Checkpoint(path, {"space": "darts", "seed": 1}, {"counter": counter}).save()
    counter.value = 0
    message = the_error(path, {"space": "darts", "seed": 2}, {"counter": counter})
    assert "seed is 1 there and 2 in this run" in message
    assert "use seed=1" in message
    assert "seed is 1 there and (not set) in this run" in the_error(path, {"space": "darts"}, {"counter": counter})
    assert "cells is (not set) there and 8" in the_error(
        path, {"space": "darts", "seed": 1, "cells": 8}, {"counter": counter}
    )
    renamed = the_error(path, {"space": "darts", "start": 1}, {"counter": counter})  # as a run of older words has it
    assert "start is (not set) there and 1 in this run; delete the file or use another run directory" in renamed
    assert counter.value == 0
    assert Checkpoint(path, {"seed": 1, "space": "darts"}, {"counter": counter}).load()
    assert counter.value == 5


@pytest.mark.parametrize("changes", [{"version": torch.zeros(3)}, {"format": torch.zeros(3)}, {"version": True}])
def test_tensors_in_the_place_of_plain_values_are_refused(tmp_path, changes):
    write(path := tmp_path / "run.pt", **changes)
    the_error(path)
    write(path, fingerprint={"seed": torch.zeros(3)})
    assert "holds more than numbers and texts" in the_error(path, {"seed": 0})


@pytest.mark.parametrize("value", [torch.zeros(3), "text", 2.5, torch.zeros(2, 2, dtype=torch.int64)])
def test_the_state_of_another_optimizer_is_refused(tmp_path, value):
    """PyTorch takes it over, and fails at the next step."""
    network = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    sound = optimizer.state_dict()
    for state in (
        {**sound, "state": {0: {"momentum_buffer": value}}},
        {**sound, "param_groups": [{**sound["param_groups"][0], "momentum": str(value)}]},
    ):
        write(path := tmp_path / "run.pt", parts={"optimizer": state})
        assert "its part optimizer is not what this run saves" in the_error(path, parts={"optimizer": optimizer})


def test_other_parts_are_refused_with_both_lists(tmp_path):
    path = tmp_path / "run.pt"
    Checkpoint(path, {}, {"counter": Counter()}).save()
    message = the_error(path, parts={"counter": Counter(), "strategy": Counter()})
    assert "['counter']" in message
    assert "['counter', 'strategy']" in message


@pytest.mark.parametrize("moment", ["while writing", "before the rename"])
def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, moment):
    path = tmp_path / "run.pt"
    counter = Counter(1)
    checkpoint = Checkpoint(path, {}, {"counter": counter})
    checkpoint.save()
    counter.value = 2

    def half(content, file):
        file.write(b"half of it")
        raise OSError("no space left on device")

    def crash(*_):
        raise OSError("crash")

    if moment == "while writing":
        monkeypatch.setattr(torch, "save", half)
    else:
        monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match=r"no space|crash"):
        checkpoint.save()
    monkeypatch.undo()
    assert checkpoint.load()
    assert counter.value == 1
    assert list(tmp_path.iterdir()) == [path]  # the only one yet


@pytest.mark.parametrize("value", [np.float64(1.0), {1, 2}, np.zeros(2), os])
def test_a_state_that_could_not_be_read_back_is_not_written(tmp_path, value):
    path = tmp_path / "run.pt"
    with pytest.raises(TypeError, match="checkpoint/parts/counter/value"):
        Checkpoint(path, {}, {"counter": Counter([value])}).save()
    assert not path.exists()


def two_saved(path):
    """A file of step 2 beside one of step 1, and a new object that would load them."""
    counter, told = Counter(1), []
    checkpoint = Checkpoint(path, {"seed": 0}, {"counter": counter})
    checkpoint.save()
    counter.value = 2
    checkpoint.save()
    counter.value = 0
    return counter, Checkpoint(path, {"seed": 0}, {"counter": counter}, told.append), told


@pytest.mark.parametrize("damage", [b"", b"PK", b"flip", b"not a zip at all"])
def test_the_one_before_takes_the_place_of_a_damaged_file_and_says_so(tmp_path, damage):
    path = tmp_path / "checkpoints" / "run.pt"
    counter, checkpoint, told = two_saved(path)
    whole = bytearray(path.read_bytes())
    if damage == b"flip":
        whole[len(whole) // 2] ^= 1
    path.write_bytes(whole if damage == b"flip" else damage)
    assert checkpoint.load()
    assert counter.value == 1
    assert told == [f"checkpoint {path} is truncated or damaged; run.pt.previous, the one before it, takes its place"]
    kept = path.with_name("run.pt.previous").read_bytes()
    counter.value = 7
    checkpoint.save()  # the damaged one is not what is kept
    assert path.with_name("run.pt.previous").read_bytes() == kept
    checkpoint.save()
    assert path.with_name("run.pt.previous").read_bytes() != kept
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.pt", "run.pt.previous"]


def test_nothing_is_told_of_a_sound_file(tmp_path):
    counter, checkpoint, told = two_saved(tmp_path / "run.pt")
    (tmp_path / "run.pt.previous").write_bytes(b"damaged")
    assert checkpoint.load()
    assert (counter.value, told) == (2, [])


def test_two_damaged_files_are_refused_as_one(tmp_path):
    counter, checkpoint, told = two_saved(tmp_path / "run.pt")
    for name in ("run.pt", "run.pt.previous"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"run\.pt is truncated, damaged or not a checkpoint"):
        checkpoint.load()
    assert (counter.value, told) == (0, [])


def test_the_one_before_is_held_to_the_same_settings_and_runs_no_code(tmp_path):
    """A damaged file must not be a way around what is asked of a sound one."""
    path, target = tmp_path / "run.pt", tmp_path / "touched"
    path.write_bytes(b"damaged")
    write(tmp_path / "run.pt.previous", fingerprint={"seed": 1})
    with pytest.raises(InputError, match="seed is 1 there and 0 in this run"):
        Checkpoint(path, {"seed": 0}, {}).load()
    write(tmp_path / "run.pt.previous", parts={"counter": Payload(target)})
    with pytest.raises(InputError, match="damaged"):
        Checkpoint(path, {"seed": 0}, {"counter": Counter()}).load()
    assert not target.exists()


def test_a_deleted_file_starts_afresh_although_the_one_before_is_there(tmp_path):
    _, checkpoint, told = two_saved(tmp_path / "run.pt")
    (tmp_path / "run.pt").unlink()
    assert (checkpoint.load(), told) == (False, [])


def test_what_does_not_read_back_is_not_kept(tmp_path, monkeypatch):
    counter, checkpoint, _ = two_saved(path := tmp_path / "run.pt")
    saved = torch.save

    def flipping(content, file):
        whole = io.BytesIO()
        saved(content, whole)
        flipped = bytearray(whole.getvalue())
        flipped[len(flipped) // 2] ^= 1
        file.write(flipped)

    monkeypatch.setattr(torch, "save", flipping)
    with pytest.raises(OSError, match="reads differently"):
        checkpoint.save()
    assert checkpoint.load()
    assert counter.value == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.previous"]


def test_without_second_names_the_one_before_is_a_copy(tmp_path, monkeypatch):
    def none(*_, **__):
        raise OSError("no hard links")

    monkeypatch.setattr(os, "link", none)
    counter, checkpoint, told = two_saved(tmp_path / "run.pt")
    (tmp_path / "run.pt").write_bytes(b"")
    assert checkpoint.load()
    assert (counter.value, len(told)) == (1, 1)


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    """A run's directory without its settings could not be gone on with, and nobody would know."""
    run = tmp_path / "run"
    run.mkdir()
    checkpoint = Checkpoint(run / "checkpoints" / "search.pt", {}, {"counter": Counter()})
    checkpoint.save()
    shutil.rmtree(run)
    with pytest.raises(FileNotFoundError):
        checkpoint.save()
    assert not run.exists()


def test_a_save_that_is_stopped_anywhere_leaves_one_that_reads(tmp_path, monkeypatch):
    """Each call that changes a folder is the last one of a process, once."""
    for moment in range(12):
        path = tmp_path / str(moment) / "run.pt"
        counter, checkpoint, _ = two_saved(path)
        counter.value, left = 3, [moment]

        def stopping(name, left=left, real=None):
            real = getattr(os, name)

            def call(*given, **named):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return real(*given, **named)

            monkeypatch.setattr(os, name, call)

        for name in ("link", "replace", "unlink", "fsync"):
            stopping(name)
        stopped = False
        try:
            checkpoint.save()
        except KeyboardInterrupt:
            stopped = True
        monkeypatch.undo()
        after = Counter()
        assert Checkpoint(path, {"seed": 0}, {"counter": after}).load()
        assert after.value in ((2, 3) if stopped else (3,))
        checkpoint.save()
        assert Checkpoint(path, {"seed": 0}, {"counter": after}).load()
        assert after.value == 3
    assert not stopped
