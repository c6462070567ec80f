"""IDX files: what is right is read exactly, what is wrong gets one line and no memory."""

import gzip
import hashlib
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numpyvae.datasets import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx_bytes(array):
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return idx_header(CODES[array.dtype.str[1:]], *array.shape) + big_endian.tobytes()


IMAGES = np.arange(24, dtype="u1").reshape(2, 3, 4)
GOOD = idx_bytes(IMAGES)


def write(folder, data, name="images-idx3-ubyte"):
    path = folder / name
    path.write_bytes(data)
    return path


def refused(path, kind, *words):
    """The error is of the right kind, one line, and names the file and each of `words`."""
    with pytest.raises(kind) as caught:
        read_idx(path)
    assert caught.type is kind
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


# ------------------------------------------------------------------ what is right


def test_hand_written_file_is_read_byte_for_byte(tmp_path):
    # Kills: an encoder and a decoder that are wrong in the same way.
    data = b"\x00\x00\x0b\x02\x00\x00\x00\x01\x00\x00\x00\x03\x00\x01\x01\x00\xff\xfe"
    array = read_idx(write(tmp_path, data))
    assert array.tolist() == [[1, 256, -2]]


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=5))
    ),
    zipped=st.booleans(),
)
def test_every_type_and_shape_comes_back_in_native_order(tmp_path_factory, array, zipped):
    # Kills: native reading of big-endian values, swapped dimensions, a wrong type code.
    data = gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array)
    back = read_idx(write(tmp_path_factory.mktemp("idx"), data))
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_first_bytes_and_not_the_name_tell_what_is_gzipped(tmp_path):
    # Kills: trust in the suffix. Some servers unpack a .gz on its way.
    np.testing.assert_array_equal(read_idx(write(tmp_path, GOOD, "plain.gz")), IMAGES)
    np.testing.assert_array_equal(read_idx(write(tmp_path, gzip.compress(GOOD), "zipped")), IMAGES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_digest_covers_every_decompressed_byte(tmp_path, pack):
    # Kills: a hash of the compressed bytes, or of the values without the header.
    digest = hashlib.sha256()
    read_idx(write(tmp_path, pack(GOOD)), digest=digest)
    assert digest.digest() == hashlib.sha256(GOOD).digest()


def test_values_longer_than_one_piece(tmp_path):
    # Kills: only the first piece read, or pieces put together in the wrong order.
    array = np.random.default_rng(0).integers(0, 2**31, size=(3, 250_001), dtype="i4")
    path = write(tmp_path, gzip.compress(idx_bytes(array), 1))
    np.testing.assert_array_equal(read_idx(path), array)


# ------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", ["empty file"], id="empty"),
        pytest.param(gzip.compress(b""), ["empty file"], id="empty, gzipped"),
        pytest.param(b"\x00\x00\x08", ["expected an IDX file", "00 00 08"], id="3 bytes"),
        pytest.param(b"\x89PNG" + GOOD, ["expected an IDX file", "89 50 4e 47"], id="magic"),
        pytest.param(b"\0\1" + GOOD[2:], ["expected an IDX file", "00 01 08 03"], id="zeros"),
        pytest.param(b"\0\0\x0a" + GOOD[3:], ["expected an IDX file", "00 00 0a"], id="type code"),
        pytest.param(b"\0\0\x08\0" + b"\7", ["1 to 32 dimensions", "declares 0"], id="ndim 0"),
        pytest.param(idx_header(8, *[1] * 33) + b"\7", ["declares 33"], id="ndim 33"),
        pytest.param(GOOD[:10], ["header of 16 bytes, got 10"], id="cut header"),
        pytest.param(GOOD[:16], ["24 bytes", "(2, 3, 4)", "got 0"], id="no values"),
        pytest.param(GOOD[:-1], ["24 bytes", "got 23"], id="cut values"),
        pytest.param(GOOD + b"\0", ["24 bytes", "got more"], id="trailing byte"),
        pytest.param(gzip.compress(GOOD[:-1]), ["got 23"], id="cut values, gzipped"),
        pytest.param(gzip.compress(GOOD + b"\0"), ["got more"], id="trailing byte, gzipped"),
        pytest.param(idx_header(8, 0, 28, 28), ["declares none", "(0, 28, 28)"], id="zero rows"),
        pytest.param(idx_header(8, 5, 28, 0), ["declares none", "(5, 28, 0)"], id="zero columns"),
        pytest.param(gzip.compress(GOOD)[:-12], ["gzip", "fetch"], id="cut gzip"),
        pytest.param(gzip.compress(GOOD)[:-1], ["gzip", "fetch"], id="cut gzip trailer"),
        pytest.param(gzip.compress(GOOD)[:5], ["gzip", "fetch"], id="cut gzip header"),
        pytest.param(gzip.compress(GOOD) + b"junk", ["gzip", "fetch"], id="junk after gzip"),
        pytest.param(
            gzip.compress(GOOD)[:10] + b"\xff" * 40, ["gzip", "fetch"], id="damaged deflate"
        ),
        pytest.param(
            gzip.compress(GOOD)[:-8] + b"\0" * 4 + gzip.compress(GOOD)[-4:],
            ["gzip", "fetch"],
            id="wrong checksum",
        ),
    ],
)
def test_corrupt_file_is_a_value_error(tmp_path, data, words):
    # Kills: the check of each row left out; gzip's EOFError, OSError and zlib.error let through.
    refused(write(tmp_path, data), ValueError, *words)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "header",
    [idx_header(8, 60000, 28, 2800), idx_header(0x0E, *[2**32 - 1] * 3)],
    ids=["4.7 GB", "6e29 bytes"],
)
def test_lying_header_allocates_nothing(tmp_path, header, pack):
    # Kills: memory taken for the declared size before the values have been seen.
    path = write(tmp_path, pack(header + b"\1" * 5000))
    tracemalloc.start()
    try:
        refused(path, ValueError, "got 5000")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_bomb_is_read_no_further_than_declared(tmp_path):
    # Kills: decompressing everything before looking at the header.
    path = write(tmp_path, gzip.compress(GOOD + bytes(64 << 20), 1))
    tracemalloc.start()
    try:
        refused(path, ValueError, "got more")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_missing_file(tmp_path):
    refused(tmp_path / "absent", FileNotFoundError, "No such file", "check the path")


@pytest.mark.skipif(os.name == "nt", reason="Windows answers with PermissionError")
def test_folder_instead_of_a_file(tmp_path):
    refused(tmp_path, IsADirectoryError, "Is a directory", "check the path")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_unreadable_file(tmp_path):
    path = write(tmp_path, GOOD)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything, so be somebody else for the moment
        try:
            os.seteuid(65534)
        except OSError:
            pytest.skip("this root cannot become another user")
    try:
        refused(path, PermissionError, "Permission denied", "check the path")
    finally:
        os.seteuid(user)


def test_number_is_not_a_path():
    # Kills: `open(0)`, which would read the standard input.
    with pytest.raises(TypeError, match="int"):
        read_idx(0)
