"""Model files: whole or not there, equal for equal models, and read with suspicion."""

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from numpyvae import VAE, History
from numpyvae.support.files import atomic_write

HEADER = {
    "format": "numpyvae model, version 1",
    "data_dim": 2,
    "latent_dim": 1,
    "hidden": [],
    "activation": "tanh",
    "likelihood": "gaussian:learned",
    "epochs": 0,
}


def tiny():
    return VAE(2, 1, (), likelihood="gaussian:learned", seed=1)


def npy(array, **settings):
    """The bytes of an array in the .npy format."""
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def npy_header(text, data=b""):
    """The bytes of a .npy stream whose header is `text`, whatever that is."""
    encoded = text.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + data


def members(folder, vae=None):
    """Name -> bytes of each member of a saved model."""
    path = folder / "members.npz"
    (vae or tiny()).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(folder, contents, compression=zipfile.ZIP_STORED):
    """Write members as a zip archive and return its path."""
    path = folder / "crafted.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


def refused(path, *words, error=(ValueError, OSError)):
    """Loading fails with one line that names the file and says what was expected."""
    with pytest.raises(error) as caught:
        VAE.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


# Writing: all or nothing.


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """Kills writing in place: a full disk would destroy the only copy."""
    path = tmp_path / "model.npz"
    tiny().save(path)
    old = path.read_bytes()

    def half(file, **arrays):
        file.write(b"PK half an archive")
        raise failure

    monkeypatch.setattr(np, "savez", half)
    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(failure)):
            VAE(3, 1, ()).save(path)
        assert path.read_bytes() == old
        with pytest.raises(type(failure)):
            tiny().save(tmp_path / "new.npz")
        assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_a_failing_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """Kills a temporary neighbor that stays behind."""
    path = tmp_path / "model.npz"
    tiny().save(path)
    old = path.read_bytes()

    def fail(source, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError):
        VAE(3, 1, ()).save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_bytes_are_flushed_before_the_file_takes_its_place(tmp_path, monkeypatch):
    """Kills a rename of bytes that are still in a buffer: a crash would leave an empty file."""
    path, events = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace

    def watch_fsync(handle):
        events.append(("fsync", os.fstat(handle).st_size))
        fsync(handle)

    def watch_replace(source, target):
        events.append(("replace", Path(source).stat().st_size, Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_replace)
    with atomic_write(path) as file:
        file.write(b"12345")
        assert not path.exists()
    assert events[:2] == [("fsync", 5), ("replace", 5, tmp_path)]
    assert path.read_bytes() == b"12345"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_mode_follows_the_umask(tmp_path):
    """Kills the 0600 of temporary files, which keeps colleagues out."""
    old = os.umask(0o027)
    try:
        tiny().save(tmp_path / "model.npz")
    finally:
        restored = os.umask(old)
    assert (tmp_path / "model.npz").stat().st_mode & 0o777 == 0o640
    assert restored == 0o027  # and the process's umask is as it was


def test_equal_models_give_equal_bytes(tmp_path, monkeypatch):
    """Kills a clock, an order or a name of a temporary file inside the archive."""
    tiny().save(tmp_path / "a.npz")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    tiny().save(str(tmp_path / "b.npz"))
    VAE.load(tmp_path / "a.npz").save(tmp_path / "c.npz")
    a, b, c = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b == c
    other = tiny()
    other.parameters.flat[0] += 1e-6
    other.save(tmp_path / "d.npz")
    assert (tmp_path / "d.npz").read_bytes() != a


def test_the_file_is_named_exactly_as_asked_and_read_without_pickle(tmp_path):
    """Kills a suffix added by numpy.savez, and pickled members."""
    tiny().save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    with np.load(tmp_path / "model", allow_pickle=False) as file:
        assert json.loads(str(file["header"])) == HEADER
        arrays = {name: file[name] for name in file.files if name != "header"}
    assert arrays.keys() == tiny().parameters.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, tiny().parameters[name])


@pytest.mark.parametrize("write", [tiny().save, History(rows=[{"epoch": 1}]).to_csv])
@pytest.mark.parametrize("place", ["missing", "a file", "a folder", "read-only"])
def test_a_place_that_cannot_be_written_gives_one_line(place, write, tmp_path):
    """Kills a traceback of another type, a message about a file nobody asked for, and litter."""
    folder = tmp_path / "place"
    path = folder / "model.npz"
    if place == "a file":
        folder.write_text("not a folder")
    elif place == "a folder":
        path.mkdir(parents=True)
    elif place == "read-only":
        folder.mkdir(mode=0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write anywhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError) as caught:
        write(path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{path}'" in message or f"{path}:" in message or message.endswith(str(path))
    assert sorted(tmp_path.rglob("*")) == before


# Reading: what is not a whole model of ours is refused.


@pytest.mark.parametrize(
    "content", [b"", b"hello", npy(np.zeros(3)), b"\x1f\x8b\x08" + bytes(50), bytes(5000)]
)
def test_not_an_archive(content, tmp_path):
    """Kills an unwrapped zipfile error."""
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    refused(path, "expected", "got", error=ValueError)


def test_no_file_and_a_folder(tmp_path):
    """Kills an operating-system error dressed as something else, or without what to do."""
    refused(tmp_path / "nothing.npz", "no such file", "check the path", error=FileNotFoundError)
    refused(tmp_path, error=OSError)


def test_truncated_at_any_length(tmp_path):
    """Kills a half-copied file that loads, or fails with another error."""
    path = tmp_path / "model.npz"
    tiny().save(path)
    whole = path.read_bytes()
    ends = (*range(0, len(whole), 23), *range(len(whole) - 70, len(whole)))
    for length in ends:
        path.write_bytes(whole[:length])
        refused(path, "expected", "got", error=ValueError)
    path.write_bytes(whole)
    VAE.load(path)


def flips(path):
    """Return (byte, bit, whether the byte holds data) over the archive at `path`.

    All bits of an array's entry in the directory, where method, sizes and flags stand, one bit
    of each byte of its name and of the directory's end, and of every ninth byte elsewhere.
    """
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        data = set()
        for info in file.infolist():
            name, extra = struct.unpack_from("<HH", whole, info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            data.update(range(start, start + info.file_size))
    entry = whole.rindex(b"PK\x01\x02")
    name = entry + 46
    chosen = [(i, bit) for i in range(entry, name) for bit in range(8)]
    chosen += [(i, i % 8) for i in (*range(0, entry, 9), *range(name, len(whole)))]
    return [(i, bit, i in data) for i, bit in chosen]


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    """Kills an unchecked CRC, and errors of zipfile that are not ValueError."""
    path = tmp_path / "model.npz"
    vae = tiny()
    vae.save(path)
    whole = path.read_bytes()
    harmless = 0
    chosen = flips(path)
    for i, bit, in_data in chosen:
        flipped = bytearray(whole)
        flipped[i] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            loaded = VAE.load(path)
        except ValueError:
            refused(path, "expected", error=ValueError)
            continue
        harmless += 1  # a time stamp, say
        assert not in_data
        assert loaded.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
        assert loaded.architecture == vae.architecture
    assert 0 < harmless < len(chosen) / 2


def test_an_npz_of_something_else(tmp_path):
    """Kills a KeyError for a foreign archive."""
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    refused(tmp_path / "other.npz", "expected", "got", "header", error=ValueError)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[1, 2]",
        "3",
        "[" * 100_000,
        '{"a":' * 50_000,
        json.dumps(HEADER | {"format": "numpyvae model, version 2"}),
        json.dumps({k: v for k, v in HEADER.items() if k != "format"}),
        json.dumps({k: v for k, v in HEADER.items() if k != "hidden"}),
        json.dumps(HEADER | {"color": "red"}),
        json.dumps(HEADER | {"line\nbreak": 1}),
        json.dumps(HEADER | {"data_dim": 0}),
        json.dumps(HEADER | {"data_dim": "2"}),
        json.dumps(HEADER | {"data_dim": 2.0}),
        json.dumps(HEADER | {"latent_dim": True}),
        json.dumps(HEADER | {"latent_dim": None}),
        json.dumps(HEADER | {"hidden": "many"}),
        json.dumps(HEADER | {"hidden": [[1], [1, 2]]}),
        json.dumps(HEADER | {"hidden": {"a": 1}}),
        json.dumps(HEADER | {"activation": "swish"}),
        json.dumps(HEADER | {"activation": ["tanh"]}),
        json.dumps(HEADER | {"likelihood": "poison"}),
        json.dumps(HEADER | {"likelihood": "gaussian:-1"}),
        json.dumps(HEADER | {"likelihood": None}),
        json.dumps({k: v for k, v in HEADER.items() if k != "epochs"}),
        json.dumps(HEADER | {"epochs": -1}),
        json.dumps(HEADER | {"epochs": 2.5}),
    ],
    ids=range(27),
)
def test_a_wrong_header(text, tmp_path):
    """Kills a header that is believed, and an error of the JSON reader that comes through."""
    contents = members(tmp_path) | {"header.npy": npy(np.array(text))}
    refused(archive(tmp_path, contents), "expected", "got", error=ValueError)


@pytest.mark.parametrize(
    "array",
    [
        np.array([json.dumps(HEADER)]),
        np.array(json.dumps(HEADER).encode()),
        np.array(3.0),
        np.zeros((), "U0"),
    ],
    ids=["vector", "bytes", "number", "empty"],
)
def test_a_header_of_another_kind(array, tmp_path):
    """Kills a header that is converted rather than checked."""
    contents = members(tmp_path) | {"header.npy": npy(array)}
    refused(archive(tmp_path, contents), "expected", "got", error=ValueError)


def test_a_header_that_is_no_text_at_all(tmp_path):
    """Kills code points beyond Unicode, at which Python raises SystemError."""
    text = "{'descr': '<U1', 'fortran_order': False, 'shape': (), }"
    contents = members(tmp_path) | {"header.npy": npy_header(text, b"\xff" * 4)}
    refused(archive(tmp_path, contents), "expected", "got", error=ValueError)


def test_a_missing_array_is_named(tmp_path):
    """Kills parameters that stay zero."""
    for name in tiny().parameters:
        contents = members(tmp_path)
        del contents[f"{name}.npy"]
        refused(archive(tmp_path, contents), "expected", "got", name, error=ValueError)


@pytest.mark.parametrize("extra", ["encoder.W7.npy", "decoder.W0", "note.txt", "a\nb.npy"])
def test_an_extra_array_is_refused(extra, tmp_path):
    """Kills a deeper model that is read as a shallow one, and a stowaway."""
    contents = members(tmp_path) | {extra: npy(np.zeros(3))}
    refused(archive(tmp_path, contents), "expected", error=ValueError)


WRONG_ARRAYS = {
    "shape": np.zeros((1, 2), np.float32),
    "transposed": np.zeros((2, 1), np.float32).T,
    "flat": np.zeros(4, np.float32),
    "empty": np.zeros((0, 2), np.float32),
    "another dtype": np.zeros((2, 2), np.float64),
    "half precision": np.zeros((2, 2), np.float16),
    "long double": np.zeros((2, 2), np.longdouble),
    "integers": np.zeros((2, 2), np.int32),
    "complex": np.zeros((2, 2), np.complex64),
    "text": np.zeros((2, 2), "U4"),
    "structured": np.zeros((2, 2), "f4,f4"),
    "dates": np.zeros((2, 2), "M8[s]"),
    "nan": np.array([[0, np.nan], [0, 0]], np.float32),
    "infinity": np.array([[0, 0], [-np.inf, 0]], np.float32),
}


@pytest.mark.parametrize("what", sorted(WRONG_ARRAYS))
def test_an_array_of_another_shape_or_dtype_is_refused(what, tmp_path):
    """Kills a reshape, a cast, and parameters that turn every result into NaN."""
    array = WRONG_ARRAYS[what]
    contents = members(tmp_path) | {"encoder.W0.npy": npy(array)}
    message = refused(archive(tmp_path, contents), "expected", "got", error=ValueError)
    if array.dtype.kind != "f" or array.shape != (2, 2):
        assert "'encoder.W0'" in message


def test_half_precision_throughout_is_refused(tmp_path):
    """Kills a model in a dtype that no other door lets in."""
    contents = members(tmp_path)
    for name, view in tiny().parameters.items():
        contents[f"{name}.npy"] = npy(view.astype(np.float16))
    refused(archive(tmp_path, contents), "float16", error=ValueError)


def test_arrays_in_another_order_are_read_as_numbers_not_as_bytes(tmp_path):
    """Kills big-endian and Fortran-ordered files that load as other numbers."""
    contents = members(tmp_path)
    for name, view in tiny().parameters.items():
        contents[f"{name}.npy"] = npy(np.asfortranarray(view.astype(">f4")))
    loaded = VAE.load(archive(tmp_path, contents))
    assert loaded.parameters.flat.tobytes() == tiny().parameters.flat.tobytes()
    assert loaded.parameters.flat.dtype == np.float32


def test_pickles_are_refused_unopened(tmp_path):
    """Kills `allow_pickle=True`: a model file must not run code."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = np.empty((2, 2), object)
    trap[0, 0] = Trap()
    for name in ("encoder.W0.npy", "header.npy"):
        contents = members(tmp_path) | {name: npy(trap, allow_pickle=True)}
        refused(archive(tmp_path, contents), "expected", "got", error=ValueError)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'descr': '<f4'",
        "'" * 9,
        "(" * 500,
        "[" * 5000,
        "-" * 5000 + "1",
        "9" * 9000,
        " " * 30_000,
        "\n  x\n y",
        "\x00",
        "x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 2), }",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 4, }",
        "{'descr': 'spam', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000000000000), }",
    ],
    ids=range(20),
)
def test_a_broken_array_header_is_refused(text, tmp_path):
    """Kills errors and warnings of the .npy reader that come through, on several lines too."""
    contents = members(tmp_path) | {"encoder.W0.npy": npy_header(text, bytes(16))}
    refused(archive(tmp_path, contents), "expected", "got", error=ValueError)


def test_a_stream_that_is_no_npy_is_refused(tmp_path):
    """Kills an unknown version read as a known one, and short or long data."""
    right = members(tmp_path)["encoder.W0.npy"]
    wrong = [b"", b"\x93NUMPY", b"hello, world", right[:-1], right + b"\0", right[:60]]
    later_version = right[:6] + b"\x09\x00" + right[8:10] + b"\0\0" + right[10:]
    for data in (*wrong, later_version):
        contents = members(tmp_path) | {"encoder.W0.npy": data}
        refused(archive(tmp_path, contents), "expected", "got", error=ValueError)


def test_a_compressed_archive_is_refused(tmp_path):
    """Kills a few kilobytes that unpack to gigabytes."""
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = archive(tmp_path, members(tmp_path), compression)
        refused(path, "expected", "got", "compressed", error=ValueError)


@pytest.mark.parametrize("liar", ["array header", "archive directory", "text"])
def test_declared_sizes_are_checked_before_memory_is_taken(liar, tmp_path):
    """Kills a file of one kilobyte that asks for four gigabytes."""
    size = 5 * 10**8
    contents = members(tmp_path, VAE(2, 1, (), likelihood="gaussian:learned"))
    if liar == "text":
        name = "header.npy"
        text = f"{{'descr': '<U{size}', 'fortran_order': False, 'shape': (), }}"
    else:
        name = "encoder.W0.npy"
        contents["header.npy"] = npy(np.array(json.dumps(HEADER | {"data_dim": size})))
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size}, 2), }}"
    contents[name] = npy_header(text, bytes(16))
    path = archive(tmp_path, contents)
    if liar != "array header":
        raw = bytearray(path.read_bytes())
        entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(name.encode()))
        claimed = len(contents[name]) - 16 + (8 if liar == "archive directory" else 4) * size
        struct.pack_into("<II", raw, entry + 20, *[min(claimed, 2**32 - 2)] * 2)
        if liar == "text":  # a text of just the size that the directory can claim
            letters = (claimed - len(contents[name]) + 16) // 4
            assert letters == size
        path.write_bytes(raw)
    assert path.stat().st_size < 4000
    tracemalloc.start()
    try:
        refused(path, "expected", "got", error=ValueError)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_a_file_is_closed_after_it_was_refused(tmp_path):
    """Kills a handle left open: the file could not be replaced on some systems."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("the open files of a process are listed in /proc only on Linux")
    path = tmp_path / "model.npz"
    path.write_bytes(b"hello")
    refused(path)
    crafted = archive(tmp_path, {"header.npy": npy(np.array("x"))})
    refused(crafted)
    opened = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
    assert not opened & {str(path.resolve()), str(crafted.resolve())}


def test_temporary_files_are_neighbors(tmp_path, monkeypatch):
    """Kills a rename across file systems, which is not atomic."""
    folders, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (folders.append(os.path.dirname(a)), replace(a, b))[1]
    )
    monkeypatch.chdir(tmp_path)
    tiny().save("model.npz")
    tiny().save(tmp_path / "again.npz")
    assert [Path(folder).resolve() for folder in folders] == [tmp_path.resolve()] * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    """Kills an open that waits for another process: `load` needs a file, `save` needs a reader."""
    pipe = tmp_path / "model.npz"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="expected a file, got a pipe"):
        VAE.load(pipe)
    with pytest.raises(OSError, match=r"model\.npz"):
        tiny().save(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_write(pipe) as file:
            file.write(b"text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)


# What a killed process leaves behind.


def killed_while_writing(folder):
    """Let a process die between the first byte of a file and its rename."""
    child = os.fork()
    if child == 0:
        with atomic_write(folder / "model.npz") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # BLAS has threads
def test_the_temporary_file_of_a_killed_process_goes_with_the_next_write(tmp_path):
    """Kills 150 files `.writing-…` after 200 kills."""
    for _ in range(3):
        killed_while_writing(tmp_path)
        assert len(list(tmp_path.glob(".writing-*"))) == 1
    (tmp_path / ".writing-folder").mkdir()
    (tmp_path / "writing-mine").touch()
    tiny().save(tmp_path / "model.npz")
    left = {".writing-folder", "writing-mine", "model.npz"}
    assert {p.name for p in tmp_path.iterdir()} == left


@pytest.mark.skipif(os.name != "posix", reason="Windows does not remove an open file")
@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_the_temporary_file_of_a_living_process_stays(moment, tmp_path, monkeypatch):
    """Kills a removal by name alone, and a lock that ends before the file has its name."""
    inner = tiny()
    replace = os.replace

    def replace_later(source, target):
        monkeypatch.setattr(os, "replace", replace)
        inner.save(tmp_path / "b.npz")
        replace(source, target)

    if moment == "renaming":
        monkeypatch.setattr(os, "replace", replace_later)
    with atomic_write(tmp_path / "a.npz") as file:
        if moment == "writing":
            inner.save(tmp_path / "b.npz")
        file.write(b"whole")
    assert (tmp_path / "a.npz").read_bytes() == b"whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    tiny().save(tmp_path / "a.npz")  # and the lock has ended
