"""One's own data: what is right is read as it is, what is wrong gets one line and no memory."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from numpyvae.datasets import fetch, read_data
from numpyvae.datasets.columns import as_labels, choose
from numpyvae.support.preparation import Preparation

X = np.arange(24.0).reshape(6, 4)


def refused(source, *words, **options):
    """Reading fails with one line that names the file, what was expected and what came."""
    with pytest.raises((ValueError, OSError)) as caught:
        read_data(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("expected", "got", *words):
        assert word in message, message
    assert not hasattr(source, "name") or source.name in message
    return message


def npy_bytes(text, data=b"", version=1):
    """The bytes of a .npy file whose header is `text`, whatever that is."""
    head = text.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + data


def saved(array, **settings):
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


# ------------------------------------------------------------------ arrays that are right


def test_an_npy_file_stays_on_disk(tmp_path):
    # kills: a file that is loaded whole, and one whose order or byte order is lost
    for array in (X, np.asfortranarray(X), X.astype(">f4"), X > 3):
        np.save(tmp_path / "x.npy", array)
        data = read_data(tmp_path / "x.npy")
        assert isinstance(data.x_train, np.memmap)
        np.testing.assert_array_equal(data.x_train, array)


def test_parts_of_an_archive_are_found_by_the_names_that_others_give_them(tmp_path):
    # kills: a validation or test part, or labels, that are not found, and others not named
    images = np.arange(6 * 9, dtype=np.uint8).reshape(6, 3, 3, 1)
    parts = {"x_train": images, "y_train": np.arange(6), "x_val": images[:2], "x_test": images[2:]}
    np.savez(tmp_path / "a.npz", **parts, y_test=np.eye(4), weights=np.ones(3))
    data = read_data(tmp_path / "a.npz")
    assert data.image_shape == (3, 3)
    np.testing.assert_array_equal(data.x_train, images.reshape(6, 9))
    assert (len(data.x_valid), len(data.x_test)) == (2, 4)
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3])
    assert data.y_valid is None
    assert data.notes == (f"ignored in {tmp_path / 'a.npz'}: weights",)
    np.savez_compressed(tmp_path / "b.npz", train_images=X, train_labels=list("abcabc"))
    data = read_data(tmp_path / "b.npz")
    np.testing.assert_array_equal(data.x_train, X)
    assert "".join(data.y_train) == "abcabc"
    np.savez(tmp_path / "c.npz", anything=X)
    np.testing.assert_array_equal(read_data(tmp_path / "c.npz").x_train, X)


@pytest.mark.parametrize("shape", [(5, 3, 2), (5, 3, 2, 1), (5, 1, 3, 2)])
def test_images_become_rows(shape):
    # kills: one channel that is taken for the width
    x = np.arange(30.0).reshape(shape)
    data = read_data(x)
    assert data.image_shape == (3, 2)
    np.testing.assert_array_equal(data.x_train, x.reshape(5, 6))


def test_columns_and_labels_of_rows_without_names():
    # kills: columns that count from 0 in a text, and the labels among the data
    data = read_data(X, columns="1,3-4", label_column="4")
    assert (data.columns, data.y_train.tolist()) == ((0, 2), [3, 7, 11, 15, 19, 23])
    np.testing.assert_array_equal(data.x_train, X[:, [0, 2]])
    assert read_data(X, columns=[0, 2]).columns == (0, 2)
    x = X.copy()
    x[:, 1] = 3
    assert read_data(x, columns="varying").columns == (0, 2, 3)


# ------------------------------------------------------------------ arrays that are wrong

DESCR = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
WRONG_NPY = {
    "empty": (b"", "damaged one (EOF"),
    "text": (b"hello, this is text", "another or a damaged one"),
    "parentheses": (npy_bytes("(" * 200), "damaged"),
    "nulls": (npy_bytes("\0" * 100), "damaged"),
    "nulls after": (npy_bytes(DESCR % "(2, 2)" + "\0" * 20, bytes(32)), "damaged"),
    "huge": (npy_bytes(DESCR % f"({2**70},)"), "damaged"),
    "huge product": (npy_bytes(DESCR % f"({2**31}, {2**31})"), "damaged"),
    "negative": (npy_bytes(DESCR % "(-2, -2)", bytes(32)), "damaged"),
    "long header": (npy_bytes("x" * 70_000, version=2), "a header of 70000 bytes"),
    "short": (saved(X)[:-1], "bytes of values"),
    "long": (saved(X) + b"\0", "bytes of values"),
    "complex": (saved(X + 1j), "real numbers"),
    "objects": (saved(np.array([[{}]], object), allow_pickle=True), "without pickle"),
    "texts": (saved(np.array([["a"]])), "numbers"),
    "dates": (saved(np.zeros((2, 2), "M8[s]")), "numbers"),
    "fields": (saved(np.zeros(2, "f4,f4")), "numbers"),
    "one row": (saved(np.zeros(3)), "x[None, :]"),
    "no rows": (saved(np.zeros((0, 3))), "at least one row"),
    "NaN": (saved(np.where(X == 9, np.nan, X)), "1 cells of 1 columns (2), the first in row 3"),
}


@pytest.mark.parametrize("what", WRONG_NPY)
def test_a_wrong_npy_file_is_one_line(what, tmp_path):
    # kills: errors of the parsers that come through, and a size that is believed
    data, word = WRONG_NPY[what]
    (tmp_path / "x.npy").write_bytes(data)
    refused(tmp_path / "x.npy", word)


def edited(path, what):
    """Change one field of the only member, in its own header and in the directory."""
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02")
    if what == "encrypted":
        raw[6] |= 1
        raw[entry + 8] |= 1
    elif what == "method 99":
        raw[8:10] = raw[entry + 10 : entry + 12] = struct.pack("<H", 99)
    elif what == "size":
        raw[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("encrypted", "an encrypted one"),
        ("method 99", "one packed by method 99"),
        ("size", "save it again"),  # Python 3.13 finds this fault before the reader does
    ],
)
def test_a_member_that_is_not_what_it_says_is_one_line(what, word, tmp_path):
    # kills: RuntimeError and NotImplementedError of zipfile, and an allocation of 1 GB
    path = edited(archive(tmp_path / "x.npz", {"x.npy": saved(X)}), what)
    tracemalloc.start()
    try:
        refused(path, word)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_wrong_archives_are_one_line(tmp_path):
    # kills: a KeyError, a sparse matrix read as rows of its values, and labels that are lost
    path, good = tmp_path / "x.npz", saved(X)
    damaged = bytearray(archive(path, {"x.npy": good}).read_bytes())
    damaged[150] ^= 1
    path.write_bytes(damaged)
    refused(path, "damaged one")  # its checksum
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(archive(path, {"x.npy": good}, method), "numpy.savez")
    refused(archive(path, {"a.npy": good, "b.npy": good}), "rename one")
    refused(archive(path, {"x.npy": b"no array"}), "'x'")
    refused(archive(path, {"x.npy": good[:-8]}), "damaged")
    refused(archive(path, {"note.txt": b"text"}), "x_train")
    refused(archive(path, {"x.npy": saved(np.array([["a", "b"]]))}), "texts")
    refused(
        archive(path, {"x.npy": good, "y.npy": saved(np.full(6, np.nan))}), "6 missing", "row 1"
    )
    refused(archive(path, {"x.npy": good, "y.npy": saved(np.zeros(5))}), "shape (6,)")
    refused(archive(path, {"x.npy": good, "x_test.npy": saved(np.ones((2, 3)))}), "4 columns")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x.npy", good)
    refused(path, "distinct names")
    names = ("indices", "indptr", "format", "shape", "data")
    refused(archive(path, {f"{n}.npy": saved(np.ones(3)) for n in names}), "toarray()")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    # kills: a few kilobytes that become gigabytes, whether their headers lie or not
    size = 40 << 20
    header = npy_bytes(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, 1), }}")
    paths = [archive(tmp_path / "x.npz", {"x.npy": header + bytes(size)}, zipfile.ZIP_DEFLATED)]
    honest = bytes([0, 0, 8, 2]) + struct.pack(">II", size, 1) + bytes(size)
    for name, data in (
        ("a-idx2-ubyte.gz", honest),
        ("b-idx2-ubyte.gz", honest[:12] + honest[:99]),
    ):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(gzip.compress(data, 1))
    tracemalloc.start()
    try:
        for path, remedy in zip(paths, ("numpy.savez", "gunzip", "fetch the file again")):
            assert path.stat().st_size < 1 << 18
            refused(path, remedy)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_what_is_no_file_or_of_no_known_kind(tmp_path):
    # kills: a pipe that is waited for, and a traceback for a picture
    refused(tmp_path, "PNG")
    (tmp_path / "x.png").write_bytes(b"\x89PNG hello")
    refused(tmp_path / "x.png", "put PNG files into a folder")
    with pytest.raises(FileNotFoundError, match="no such file; check the path"):
        read_data(tmp_path / "none.npz")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npy")
        refused(tmp_path / "pipe.npy", "a pipe or a device")


# ------------------------------------------------------------------ IDX


def test_idx_files_with_a_dot_are_found(tmp_path):
    # kills: the most frequent report about MNIST's files
    (tmp_path / "train-images.idx3-ubyte").write_bytes(b"")
    assert fetch._find("train-images-idx3-ubyte", [tmp_path]).name == "train-images.idx3-ubyte"


def test_an_idx_file_brings_its_labels_and_its_test_part(tmp_path):
    # kills: labels that are left behind
    def write(name, *shape):
        data = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        data += bytes(range(int(np.prod(shape))))
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    write("train-images.idx3-ubyte", 4, 2, 3)
    write("train-labels.idx1-ubyte", 4)
    write("t10k-images.idx3-ubyte", 2, 2, 3)
    data = read_data(tmp_path / "train-images.idx3-ubyte")
    assert (data.image_shape, data.x_test.shape) == ((2, 3), (2, 6))
    assert (data.y_train.tolist(), data.y_test) == ([0, 1, 2, 3], None)


# ------------------------------------------------------------------ tables


def write(path, text, **settings):
    path.write_text(text, **settings)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("header", [True, False])
def test_delimiter_and_header_are_recognized(delimiter, header, tmp_path):
    # kills: a first row of numbers that is lost, and a header read as a row
    rows = [["age", "height"]] * header + [["1", "2.5"], ["-3e2", "4"]]
    text = "\n".join(delimiter.join(row) for row in rows) + "\n\n"
    data = read_data(write(tmp_path / "x.csv", text, encoding="utf-8-sig"))
    assert data.names == (("age", "height") if header else None)
    assert data.x_train.tolist() == [[1, 2.5], [-300, 4]]


def test_labels_and_columns_of_a_table(tmp_path):
    # kills: columns in the order of the file, and texts that are converted though not used
    text = ',age,group,note,height\n0,1,a,"x, y",2\n1,3,b,z,4\n'
    path = write(tmp_path / "x.csv", text)
    data = read_data(path, columns="height,age", label_column="group")
    assert (data.names, data.columns, data.notes) == (("height", "age"), (4, 1), ())
    assert (data.x_train.tolist(), data.y_train.tolist()) == ([[2, 1], [4, 3]], ["a", "b"])
    text = text.replace(",group,note", "").replace('a,"x, y",', "").replace("b,z,", "")
    data = read_data(write(path, text))
    assert data.names == ("age", "height")  # the index of a data frame is no column
    assert "numbers the rows" in data.notes[0]
    flowers = write(tmp_path / "iris.csv", "5.1,3.5,setosa\n4.9,3,setosa\n6,2,virginica\n")
    data = read_data(flowers, label_column="3")
    assert data.names is None
    assert data.x_train.shape == (3, 2)


WRONG_CSV = {
    "": "empty file",
    "a,b\n": "expected numbers",
    "a,b\n1,2\n3\n": "2 cells in each row, got 1 in line 3",
    "a,b\n1,x\n2,y\n3,z\n": "text in 3 cells of column 'b', the first 'x' in line 2",
    "a,b\n1,\n2,3\nNA,nan\n": "missing values in 3 cells of 2 columns ('a', 'b'), the first in "
    "line 2, column 'b'",
    "a;b\n1,5;2\n": "decimal point",
    "1,2\n3,inf\n": "infinite values in 1 cells of column 2, the first in line 2",
    "a\0b,c\n1,2\n": "null bytes",
}


@pytest.mark.parametrize("text", WRONG_CSV)
def test_a_wrong_table_is_one_line(text, tmp_path):
    # kills: a message that does not say how many cells, or where the first one is
    refused(write(tmp_path / "x.csv", text), WRONG_CSV[text])


def test_cells_are_counted_over_all_blocks(tmp_path):
    # kills: a count that ends with the first 4096 rows
    path = write(tmp_path / "x.csv", "a,b\n" + "1,x\n" * 5000)
    refused(path, "text in 5000 cells of column 'b'", "--label-column b")


def test_options_that_a_table_does_not_have(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    refused(path, "among a, b, got 'c'", columns="c")
    refused(path, "among a, b, got '3'", columns="1,3")
    refused(path, "name each of them once", columns="a,1")
    refused(path, "leave it out of --columns", columns="a,b", label_column="b")
    refused(path, "one character", delimiter="::")
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path / "x.npy", "leave it out", delimiter=";")
    (tmp_path / "z.csv").write_bytes(gzip.compress(b"a,b"))
    refused(tmp_path / "z.csv", "gunzip")


class Frame:
    """What `read_frame` needs of a data frame, whichever library made it."""

    def __init__(self, **columns):
        self._columns = {name: np.array(values) for name, values in columns.items()}
        self.columns = list(columns)

    def to_numpy(self):
        return np.column_stack(list(self._columns.values()))

    def __getitem__(self, name):
        return self._columns[name]


def test_a_data_frame_gives_its_columns_by_name():
    # kills: an object array of a frame with texts, and integers that lose their digits
    frame = Frame(age=[1, 2], group=["a", "b"], height=[1.5, 2.5])
    data = read_data(frame, label_column="group")
    assert (data.names, data.x_train.tolist()) == (("age", "height"), [[1, 1.5], [2, 2.5]])
    assert data.y_train.tolist() == ["a", "b"]
    refused(frame, "text in 2 cells of column 'group', the first 'a' in row 1")
    refused(Frame(a=[1, np.nan]), "missing values in 1 cells of column 'a', the first in row 2")


def test_a_sparse_matrix_becomes_dense_block_by_block():
    # kills: an object array, and a second dense copy of the whole
    from scipy import sparse

    matrix = sparse.random(2000, 800, 0.01, "csc", random_state=0, dtype=np.float32)
    expected = matrix.toarray()
    tracemalloc.start()
    try:
        x = read_data(matrix).x_train
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(x, expected)
    assert peak < 2.2 * x.nbytes


def test_a_folder_of_images(tmp_path):
    # kills: an order that depends on the disk, classes that are lost, and images of two sizes
    Image = pytest.importorskip("PIL.Image")
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        for i in (1, 0):
            gray = np.full((2, 3), 40 * i + (folder == "b"), np.uint8)
            Image.fromarray(gray).save(tmp_path / folder / f"{i}.png")
    data = read_data(tmp_path)
    assert (data.image_shape, data.maximum) == ((2, 3), 255)
    assert data.x_train[:, 0].tolist() == [0, 40, 1, 41]
    assert data.y_train.tolist() == ["a", "a", "b", "b"]
    Image.fromarray(np.zeros((5, 3), np.uint8)).save(tmp_path / "b" / "2.png")
    with pytest.raises(ValueError, match=r"expected 2x3 pixels as in 0\.png, got 5x3"):
        read_data(tmp_path)
    (tmp_path / "b" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(OSError, match=r"2\.png: expected a PNG image"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.zeros(3), "shape (2,)"),
        ([1.0, np.nan], "1 missing ones, the first in row 2"),
        ([1.0, 2.5], "whole numbers or texts"),
        (["a", ""], "1 missing"),
        ([1j, 2], "class labels"),
        ([[1, 1], [0, 1]], "shape (2,)"),
    ],
)
def test_labels_that_are_not_classes(labels, word):
    # kills: NaN as a class of its own, and labels of other rows
    with pytest.raises(ValueError) as caught:
        as_labels(labels, 2, "y")
    assert word in str(caught.value)


def test_columns_by_name_come_before_numbers():
    # kills: the columns "0", "1", … of a data frame taken for positions
    assert choose("0,2", ["0", "1", "2"], 3, "x") == [0, 2]
    assert choose("2", ["a", "b"], 2, "x") == [1]


# ------------------------------------------------------------------ what was done to the data

RAW = np.random.default_rng(0).normal([5, -300], [2, 40], (50, 2))


@pytest.mark.parametrize("scale", ["none", "maximum", "standardize"])
def test_inverse_and_jacobian_belong_to_the_rule(scale):
    # kills: a sign or a factor in one of the three that the others do not have
    raw = RAW + 700
    p = Preparation.fitted(raw, scale)
    x = p.apply(raw, "float64")
    np.testing.assert_allclose(p.invert(x), raw, rtol=1e-12)
    step = 1e-3
    moved = p.apply(raw + step, "float64")  # the map is linear, column by column
    np.testing.assert_allclose(
        p.log_jacobian, np.log((moved - x)[0] / step).sum(), rtol=1e-9, atol=1e-9
    )
    if scale == "standardize":
        np.testing.assert_allclose([x.mean(axis=0), x.std(axis=0)], [[0, 0], [1, 1]], atol=1e-12)


def test_whole_numbers_have_no_jacobian():
    # kills: a log probability that is shifted by the scale of a density
    for reading in ("values", "outcomes"):
        p = Preparation.fitted(RAW + 700, "maximum", reading=reading, binarize=False)
        assert p.log_jacobian == 0


def test_other_scales_are_told_with_both_ranges():
    # kills: a warning for rows like those of the training, and none for rows on another scale
    p = Preparation.fitted(RAW, "standardize", names=("a", "b"))
    assert p.difference(np.random.default_rng(1).normal([5, -300], [2, 40], (30, 2))) is None
    text = p.difference(RAW * [1, 10])
    assert "in column 'b' (1 of 2 columns)" in text
    assert "where the model was trained on -" in text
    # Three rows may be alike by chance, and rows of one group have a constant column.
    assert p.difference(RAW[:3] * 0.01 + [5, -300]) is None
    assert p.difference(np.column_stack([RAW[:, 0], np.full(50, -300.0)])) is None
    images = Preparation.fitted(np.arange(256.0).reshape(64, 4), "maximum", image_shape=(2, 2))
    assert "values from 0 to 1," in images.difference(np.linspace(0, 1, 80).reshape(20, 4))


def test_columns_are_found_again_by_name_or_by_place():
    # kills: another file's columns taken in its order
    p = Preparation.fitted(RAW, columns=(1, 3), names=("b", "d"))
    assert p.positions(3, ["d", "c", "b"], "x.csv") == [2, 0]
    assert p.positions(4, None, "x.npy") == [1, 3]
    assert p.positions(2, None, "x.npy") is None
    for width, names in ((3, ["d", "c", "e"]), (3, None)):
        with pytest.raises(ValueError, match=r"x: expected .* got .*check"):
            p.positions(width, names, "x")
