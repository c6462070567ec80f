"""MNIST and its kin: where files are looked for, how they are verified, how they are fetched.

The network is a server on the loopback interface; the data set is a tiny one with its own hashes.
"""

import gzip
import hashlib
import os
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from numpyvae.datasets import fetch, load_fashion_mnist, load_mnist, mnist, read_idx

NAMES = tuple(mnist._MNIST.sha256)


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype("u1").tobytes()


def tiny_files(seed):
    rng = np.random.default_rng(seed)
    shapes = [(6, 4, 3), (6,), (2, 4, 3), (2,)]
    return {name: idx_bytes(rng.integers(256, size=shape)) for name, shape in zip(NAMES, shapes)}


FILES = tiny_files(0)
OTHER = tiny_files(1)  # whole, of the right shape, but not the right files


def source(*mirrors):
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    return fetch.Source("tiny", ("tiny", "tiny-set"), mirrors, sha256)


def put(folder, files=FILES, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / (name + suffix)).write_bytes(pack(data))
    return folder


def is_tiny(dataset):
    images, labels = FILES[NAMES[0]][16:], FILES[NAMES[1]][8:]
    return dataset.x_train.tobytes() == images and dataset.y_train.tobytes() == labels


def one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache, no folder in the environment, and no proxy between us and loopback."""
    monkeypatch.delenv("NUMPYVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path


@pytest.fixture
def cache(home):
    return home / "xdg" / "numpyvae" / "tiny"


# ------------------------------------------------------------------ the real files


def real_folder(*names):
    folder = os.environ.get("NUMPYVAE_DATA")  # read when the module is collected
    found = folder and any(
        (Path(folder, name, NAMES[0] + suffix)).is_file()
        for name in names
        for suffix in ("", ".gz")
    )
    return folder if found else None


REAL_MNIST = real_folder("mnist", "")
REAL_FASHION = real_folder("fashion", "fashion-mnist")


@pytest.mark.skipif(not REAL_MNIST, reason="NUMPYVAE_DATA names no folder with MNIST")
def test_real_mnist(monkeypatch):
    # Kills: a wrong hash, a transposed image, training and test exchanged.
    monkeypatch.setenv("NUMPYVAE_DATA", REAL_MNIST)
    data = load_mnist(download=False)
    assert (data.name, data.maximum, data.image_shape) == ("mnist", 255, (28, 28))
    assert data.x_train.shape == (60000, 784)
    assert data.x_test.shape == (10000, 784)
    assert data.x_train.dtype == data.y_train.dtype == np.uint8
    assert data.y_train[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.y_test[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    # The mean and deviation of the grays that everybody normalizes with.
    mean = data.x_train.mean(dtype="f8") / 255
    square = np.bincount(data.x_train.ravel()) @ (np.arange(256) / 255) ** 2 / data.x_train.size
    assert round(mean, 4) == 0.1307
    assert round((square - mean**2) ** 0.5, 4) == 0.3081
    # The first training image is a 5: its topmost ink lies in row 5, columns 12 ... 23.
    first = data.x_train[0].reshape(28, 28)
    assert np.flatnonzero(first.any(axis=1))[0] == 5
    assert np.flatnonzero(first[5])[[0, -1]].tolist() == [12, 23]


@pytest.mark.skipif(not REAL_MNIST, reason="NUMPYVAE_DATA names no folder with MNIST")
def test_real_mnist_has_the_published_md5():
    # Kills: hashes in the package that were computed from other files than everybody's.
    published = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    folders = [Path(REAL_MNIST, "mnist"), Path(REAL_MNIST)]
    for name, expected in published.items():
        md5, sha256 = hashlib.md5(), hashlib.sha256()
        path = fetch._find(name, folders)
        read_idx(path, digest=md5)
        read_idx(path, digest=sha256)
        assert md5.hexdigest() == expected
        assert sha256.hexdigest() == mnist._MNIST.sha256[name]


@pytest.mark.skipif(not REAL_FASHION, reason="NUMPYVAE_DATA names no folder with Fashion-MNIST")
def test_real_fashion_mnist(monkeypatch):
    monkeypatch.setenv("NUMPYVAE_DATA", REAL_FASHION)
    data = load_fashion_mnist(download=False)
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert np.bincount(data.y_test).tolist() == [1000] * 10
    assert round(data.x_train.mean(dtype="f8") / 255, 4) == 0.2860


@pytest.mark.parametrize(
    ("load", "folders"),
    [(load_mnist, ["mnist"]), (load_fashion_mnist, ["fashion", "fashion-mnist"])],
)
def test_each_loader_looks_for_its_own_files(load, folders, home):
    # Kills: two loaders on one source; a hash list of one accepted for the other.
    with pytest.raises(FileNotFoundError) as caught:
        load(home)
    one_line(caught, *NAMES, *(home / folder for folder in folders))
    put(home / folders[-1])
    with pytest.raises(ValueError) as caught:
        load(home)
    one_line(caught, home / folders[-1] / NAMES[0], "SHA-256")


def test_the_two_sets_share_no_hash():
    # Kills: a hash copied from one set, or one file, to another.
    hashes = [*mnist._MNIST.sha256.values(), *mnist._FASHION.sha256.values()]
    assert len(set(hashes)) == 8
    assert all(len(bytes.fromhex(digest)) == 32 for digest in hashes)


# ------------------------------------------------------------------ search


@pytest.mark.parametrize("subfolder", ["", "tiny", "tiny-set"])
@pytest.mark.parametrize(
    ("pack", "suffix"),
    [(gzip.compress, ".gz"), (bytes, ""), (bytes, ".gz"), (lambda b: gzip.compress(b, 1), ".gz")],
    ids=["gzipped", "plain", "plain named .gz", "gzipped by another tool"],
)
def test_files_are_found_and_verified_however_packed(home, subfolder, pack, suffix):
    put(home / "mine" / subfolder, pack=pack, suffix=suffix)
    assert is_tiny(mnist._load(source(), home / "mine", download=False))
    assert is_tiny(mnist._load(source(), str(home / "mine"), download=False))


def test_images_become_rows_and_parts_keep_their_place(home):
    data = mnist._load(source(), put(home / "mine"), download=False)
    assert data.x_train.shape == (6, 12)
    assert data.x_test.shape == (2, 12)
    assert data.image_shape == (4, 3)
    assert data.x_test.tobytes() == FILES[NAMES[2]][16:]
    assert data.y_test.tobytes() == FILES[NAMES[3]][8:]
    assert not data.x_train.flags.writeable


@pytest.mark.skipif(os.name == "nt", reason="Windows does not find its home by HOME")
def test_tilde_is_the_home_folder(home, monkeypatch):
    # Kills: "~/data" taken literally; no shell expands it in a configuration file.
    monkeypatch.setenv("HOME", str(home))
    put(home / "mine")
    assert is_tiny(mnist._load(source(), "~/mine", download=False))
    monkeypatch.setenv("NUMPYVAE_DATA", "~/mine")
    assert is_tiny(mnist._load(source(), None, download=False))


def test_search_order_is_argument_variable_cache(home, cache, monkeypatch):
    # Kills: another order. The files of a place that must not be read are the wrong ones.
    monkeypatch.setenv("NUMPYVAE_DATA", str(put(home / "variable", OTHER)))
    put(cache, OTHER)
    assert is_tiny(mnist._load(source(), put(home / "argument"), download=True))
    put(home / "variable" / "tiny")  # a subfolder comes before the folder itself
    assert is_tiny(mnist._load(source(), None, download=True))
    monkeypatch.setenv("NUMPYVAE_DATA", str(home / "nowhere"))
    put(cache)
    assert is_tiny(mnist._load(source(), None, download=True))
    monkeypatch.setenv("NUMPYVAE_DATA", "")  # an empty variable is not the working folder
    monkeypatch.chdir(put(home / "here", OTHER))
    assert is_tiny(mnist._load(source(), None, download=True))


def test_folder_argument_without_the_files_does_not_fall_through(home, cache, monkeypatch):
    # Kills: a silent look elsewhere, or a silent download, when the caller named a place.
    put(cache)
    monkeypatch.setenv("NUMPYVAE_DATA", str(put(home / "variable")))
    mine = put(home / "mine")
    (mine / (NAMES[1] + ".gz")).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist._load(source("http://127.0.0.1:9"), mine, download=True)
    one_line(caught, NAMES[1], mine, mine / "tiny", mine / "tiny-set", "put the files there")
    assert NAMES[0] not in str(caught.value)
    assert str(cache) not in str(caught.value)


def test_without_download_all_places_are_listed(home, cache, monkeypatch):
    monkeypatch.setenv("NUMPYVAE_DATA", str(home / "variable"))
    with pytest.raises(FileNotFoundError) as caught:
        mnist._load(source("http://127.0.0.1:9"), None, download=False)
    one_line(caught, *NAMES, home / "variable" / "tiny", cache, "allow the download")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/numpyvae"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/x/numpyvae"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/numpyvae"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/me/.cache/numpyvae"),
        ("darwin", {}, "/home/me/Library/Caches/numpyvae"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/numpyvae"),
        ("win32", {}, "/home/me/AppData/Local/numpyvae"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the paths are POSIX paths")
def test_cache_is_where_the_platform_wants_it(monkeypatch, platform, environment, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(fetch._cache_folder()) == expected


# ------------------------------------------------------------------ verification


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["argument", "variable"])
def test_wrong_file_of_the_user_is_refused_and_left_alone(home, monkeypatch, name, where):
    # Kills: a file that is not verified, and a loader that deletes what is not its own.
    mine = put(home / "mine")
    wrong = put(mine, {name: OTHER[name]}) / (name + ".gz")
    before = wrong.read_bytes()
    monkeypatch.setenv("NUMPYVAE_DATA", str(mine))
    with pytest.raises(ValueError) as caught:
        mnist._load(source(), mine if where == "argument" else None, download=True)
    expected, found = (hashlib.sha256(files[name]).hexdigest() for files in (FILES, OTHER))
    one_line(caught, wrong, f"{expected} when decompressed", f"found {found}", "replace it")
    assert wrong.read_bytes() == before


def test_truncated_file_of_the_user_is_refused_and_left_alone(home):
    mine = put(home / "mine")
    cut = mine / (NAMES[0] + ".gz")
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(ValueError) as caught:
        mnist._load(source(), mine, download=True)
    one_line(caught, cut, "gzip", "replace it")
    assert cut.exists()


@pytest.mark.parametrize(
    "data",
    [gzip.compress(OTHER[NAMES[2]]), gzip.compress(FILES[NAMES[2]])[:-9]],
    ids=["wrong", "truncated"],
)
def test_broken_file_in_the_cache_is_refused_and_removed(cache, data):
    # Kills: a broken cache that stays broken for ever.
    bad = put(cache) / (NAMES[2] + ".gz")
    bad.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        mnist._load(source(), None, download=False)
    one_line(caught, bad, "removed", "call again")
    assert files_in(cache) == sorted(f"{name}.gz" for name in NAMES if name != NAMES[2])


# ------------------------------------------------------------------ download


class Server(ThreadingHTTPServer):
    """Serves `routes`, path -> (status, declared length, body), and counts what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes, self.asked = {}, []

    def mirror(self, name, change=None, files=FILES):
        for file, data in files.items():
            self.routes[f"/{name}/{file}.gz"] = (change or whole)(gzip.compress(data))
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status, length, body = self.server.routes.get(self.path, (404, 0, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    pytest.importorskip("pooch", reason="the downloads use pooch, which is not installed")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def whole(data):
    return 200, len(data), data


def flipped(data):
    middle = len(data) // 2
    return whole(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


BROKEN = {
    "404": lambda data: (404, 0, b""),
    "500": lambda data: (500, 4, b"oops"),
    "connection lost half-way": lambda data: (200, len(data), data[: len(data) // 2]),
    "truncated": lambda data: (200, len(data) // 2, data[: len(data) // 2]),
    "one bit flipped": flipped,
    "a page instead of the file": lambda data: whole(b"<html>no</html>"),
    "empty": lambda data: whole(b""),
    "another data set": lambda data: whole(gzip.compress(OTHER[NAMES[0]])),
}
UNREACHED = ("404", "500", "connection lost half-way")


def test_download_fills_the_cache_and_happens_once(server, cache):
    # Kills: a cache that is not read, or that has other files than the four.
    good = source(server.mirror("good"))
    assert is_tiny(mnist._load(good, None, download=True))
    assert server.asked == [f"/good/{name}.gz" for name in NAMES]
    assert files_in(cache) == sorted(f"{name}.gz" for name in NAMES)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    server.asked.clear()
    assert is_tiny(mnist._load(good, None, download=True))
    assert is_tiny(mnist._load(good, None, download=False))
    assert server.asked == []


def test_only_what_is_missing_is_downloaded(server, cache):
    (put(cache) / (NAMES[3] + ".gz")).unlink()
    assert is_tiny(mnist._load(source(server.mirror("good")), None, download=True))
    assert server.asked == [f"/good/{NAMES[3]}.gz"]


def test_body_unpacked_on_its_way_is_accepted(server, cache):
    # Kills: a hash of the compressed bytes; some servers send .gz as an encoding.
    unpacked = source(server.mirror("plain", lambda data: whole(gzip.decompress(data))))
    assert is_tiny(mnist._load(unpacked, None, download=True))
    assert is_tiny(mnist._load(unpacked, None, download=False))


@pytest.mark.parametrize("fault", BROKEN)
def test_failed_download_is_reported_and_leaves_nothing(server, cache, fault):
    # Kills: bytes written under their final name before they are verified.
    mirrors = [server.mirror("first", BROKEN[fault]), server.mirror("second", BROKEN[fault])]
    kind = OSError if fault in UNREACHED else ValueError
    with pytest.raises(kind) as caught:
        mnist._load(source(*mirrors), None, download=True)
    assert caught.type is kind
    one_line(caught, *(f"{mirror}/{NAMES[0]}.gz" for mirror in mirrors), "NUMPYVAE_DATA")
    assert ".part-" not in str(caught.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("fault", BROKEN)
def test_next_mirror_takes_over(server, cache, fault):
    # Kills: only the first mirror tried, or the rest of its broken bytes kept.
    mirrors = [server.mirror("first", BROKEN[fault]), server.mirror("second")]
    assert is_tiny(mnist._load(source(*mirrors), None, download=True))
    assert server.asked[:2] == [f"/first/{NAMES[0]}.gz", f"/second/{NAMES[0]}.gz"]
    assert files_in(cache) == sorted(f"{name}.gz" for name in NAMES)
    assert is_tiny(mnist._load(source(), None, download=False))


def test_wrong_bytes_from_a_mirror_name_both_hashes(server):
    mirror = server.mirror("wrong", files=OTHER)
    with pytest.raises(ValueError) as caught:
        mnist._load(source(mirror), None, download=True)
    one_line(caught, *(hashlib.sha256(files[NAMES[0]]).hexdigest() for files in (FILES, OTHER)))


def test_server_that_is_not_there(server, cache):
    address = server.mirror("gone")
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError) as caught:
        mnist._load(source(address), None, download=True)
    assert caught.type is OSError
    one_line(caught, address, "try again later")
    assert list(cache.iterdir()) == []


def test_interrupt_in_a_download_leaves_nothing(server, cache, monkeypatch):
    # Kills: clean-up that runs for expected errors only.
    import pooch

    def half_then_ctrl_c(self, url, output_file, pooch):
        Path(output_file).write_bytes(gzip.compress(FILES[NAMES[0]])[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", half_then_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        mnist._load(source(server.mirror("good")), None, download=True)
    assert list(cache.iterdir()) == []


def test_failure_keeps_the_files_that_came_before(server, cache):
    # Kills: starting from nothing again after a lost connection.
    address = server.mirror("good")
    del server.routes[f"/good/{NAMES[2]}.gz"]
    with pytest.raises(OSError, match="404"):
        mnist._load(source(address), None, download=True)
    assert files_in(cache) == sorted(f"{name}.gz" for name in NAMES[:2])


def test_cache_that_cannot_be_written(server, home, monkeypatch):
    (home / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    with pytest.raises(OSError) as caught:
        mnist._load(source(server.mirror("good")), None, download=True)
    one_line(caught, home / "file", "XDG_CACHE_HOME", "NUMPYVAE_DATA")
    assert server.asked == []


def test_missing_pooch_is_explained(cache, monkeypatch):
    # Kills: a bare "No module named 'pooch'".
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError) as caught:
        mnist._load(source("http://127.0.0.1:9"), None, download=True)
    one_line(caught, "pip install 'numpyvae[data]'", "NUMPYVAE_DATA", NAMES[0])
    assert not cache.exists()
    put(cache)  # files that are there need no pooch
    assert is_tiny(mnist._load(source("http://127.0.0.1:9"), None, download=True))
