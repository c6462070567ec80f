"""The data set type, the embedded digits and the draw that makes grays binary."""

import dataclasses
import hashlib
import subprocess
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest

from numpyvae.datasets import Dataset, binarize, load_digits, load_wine


def one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_import_needs_numpy_alone():
    # Kills: pooch (and requests), SciPy or matplotlib imported where no download is asked for.
    code = (
        "import sys, numpyvae.datasets as d; d.load_digits();"
        "print([m for m in ('pooch', 'requests', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------ digits


def test_digits_are_the_published_ones():
    # The class counts are those in the data set's own description.
    digits = load_digits()
    train = [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    test = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(digits.y_train).tolist() == train
    assert np.bincount(digits.y_test).tolist() == test
    assert digits.x_train.shape == (3823, 64)
    assert digits.x_test.shape == (1797, 64)
    assert (digits.name, digits.maximum, digits.image_shape) == ("digits", 16, (8, 8))
    assert digits.x_train.min() == digits.x_test.min() == 0
    assert digits.x_train.max() == digits.x_test.max() == 16


def test_digits_keep_every_byte_and_its_place():
    # Kills: a packing that transposes images, reorders rows or loses a value.
    digits = load_digits()
    digest = hashlib.sha256()
    for array in (digits.x_train, digits.y_train, digits.x_test, digits.y_test):
        digest.update(array.tobytes())
    assert digest.hexdigest() == "88d5821efb3f65de07eb33dcc6b11a2b460cc36b04998c46eb9afc299c6ae14c"
    # The first test image, as its file has it: a nought, upright.
    assert digits.x_test[0].reshape(8, 8).tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    assert digits.y_test[0] == 0


def test_digits_are_compact_row_major_and_read_only():
    # Kills: views in column order (slow batches), floats, and a shared array that can be changed.
    digits = load_digits()
    for array in (digits.x_train, digits.y_train, digits.x_test, digits.y_test):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.maximum = 255


# ------------------------------------------------------------------ Dataset


@pytest.fixture
def tiny():
    x = np.array([[0, 4, 16], [8, 1, 2]], dtype="u1")
    return Dataset("tiny", x, np.array([0, 1], "u1"), x[:1], np.array([0], "u1"), 16, (1, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float16])
def test_grays_are_counts_over_the_maximum(tiny, dtype):
    # Kills: integer division, division by 255 everywhere, the wrong split, a silent float64.
    train, test = tiny.grays(dtype=dtype), tiny.grays("test", dtype=dtype)
    assert train.dtype == test.dtype == np.dtype(dtype)
    assert train.tolist() == [[0, 0.25, 1], [0.5, 0.0625, 0.125]]
    assert test.tolist() == [[0, 0.25, 1]]


def test_grays_default_is_the_training_part_in_float32(tiny):
    assert tiny.grays().dtype == np.float32
    assert tiny.grays().shape == (2, 3)


def test_grays_refuse_an_unknown_split_and_an_integer_dtype(tiny):
    # Kills: any other word read as "test", and grays rounded to 0 and 1.
    with pytest.raises(ValueError) as caught:
        tiny.grays("valid")
    one_line(caught, "split", "train, test", "'valid'")
    with pytest.raises(TypeError) as caught:
        tiny.grays(dtype="uint8")
    one_line(caught, "floating", "uint8", "x_train")


def test_dataset_prints_in_one_line_and_compares_by_identity(tiny):
    # Kills: the generated repr (pages of numbers) and == (ambiguous truth value of an array).
    assert repr(tiny) == ("Dataset(tiny: 2 training and 1 test images of 1x3, values 0..16)")
    assert tiny == tiny
    assert tiny != dataclasses.replace(tiny)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"maximum": 0}, ValueError, ["maximum: expected", "at least 1, got 0"]),
        ({"maximum": 2.5}, TypeError, ["maximum: expected a whole number", "2.5"]),
        ({"maximum": 8}, ValueError, ["x_train: expected values in [0, 8], got", "0 to 16"]),
        ({"image_shape": (2, 2)}, ValueError, ["x_train: expected 4 columns, got 3"]),
        ({"image_shape": 3}, TypeError, ["image_shape: expected (height, width), got 3"]),
        ({"image_shape": (1, 3, 1)}, TypeError, ["image_shape: expected (height, width), got"]),
        ({"image_shape": (-1, -3)}, ValueError, ["image_shape: expected", "got -1"]),
        ({"x_test": np.zeros((1, 1, 3), "u1")}, ValueError, ["x_test: expected", "(1, 1, 3)"]),
        ({"x_test": np.zeros((0, 3), "u1")}, ValueError, ["x_test: expected", "(0, 3)"]),
        ({"x_test": np.array([[0, -1, 0]])}, ValueError, ["x_test: expected", "-1 to 0"]),
        ({"x_train": np.full((2, 3), 0.5)}, TypeError, ["x_train: expected whole", "float64"]),
        ({"x_train": np.full((2, 3), np.nan)}, ValueError, ["x_train: expected finite"]),
        ({"y_train": np.zeros(3, "u1")}, ValueError, ["y_train: expected shape (2,)", "(3,)"]),
        ({"y_train": [[0], [0, 1]]}, ValueError, ["y_train: expected shape (2,)", "ragged"]),
        ({"y_test": np.zeros(1)}, TypeError, ["y_test: expected class labels", "float64"]),
        ({"y_test": np.ma.zeros(1, int)}, TypeError, ["y_test: expected", "masked array"]),
        ({"y_test": None}, ValueError, ["y_test: expected shape (1,)", "()"]),
    ],
)
def test_a_data_set_refuses_parts_that_do_not_agree(tiny, change, error, words):
    # Kills: grays that are NaN or above 1, images of another size, labels of other rows.
    with pytest.raises(error) as caught:
        dataclasses.replace(tiny, **change)
    one_line(caught, *words)


def test_a_data_set_takes_lists():
    # Kills: a list that is kept as it is, and has no shape.
    data = Dataset("lists", [[0, 4]], [1], [[2, 3]], [0], 4, [1, 2])
    assert data.x_train.shape == (1, 2)
    assert data.grays("test").tolist() == [[0.5, 0.75]]
    with pytest.raises(ValueError, match="read-only"):
        data.y_train[0] = 3


# ------------------------------------------------------------------ binarize


@pytest.mark.parametrize(
    ("full", "dtype"),
    [(255, "u1"), (16, "u1"), (16, "i8"), (1, "f4"), (1, "f8"), (1, "f2"), (1, "?"), (0.1, "f8")],
)
def test_ends_are_certain(full, dtype):
    # Kills: `u <= p` (a 1 where x = 0), u in (0, 1] or a rounded p (a 0 where x = maximum).
    class Extreme(np.random.Generator):
        """Draws the smallest and the largest uniform number in turn."""

        def random(self, size, dtype):
            u = np.zeros(size, dtype)
            u[::2] = 1 - np.finfo(dtype).epsneg
            return u

    for rng in (np.random.default_rng(0), Extreme(np.random.PCG64(0))):
        assert not binarize(np.zeros((100, 50), dtype), rng, full).any()
        assert binarize(np.full((100, 50), full, dtype), rng, full).all()


@pytest.mark.parametrize(("maximum", "dtype"), [(16, "u1"), (255, "u1"), (1, "f4"), (1, "f8")])
def test_each_gray_level_is_drawn_at_its_own_rate(maximum, dtype):
    # Kills: a threshold at one half, 256 for 255, probabilities of 1 - x; 25 levels at 4e4 draws.
    levels = np.linspace(0, maximum, 25).astype(dtype)
    x = np.tile(levels, (40_000, 1))
    rate = binarize(x, np.random.default_rng(1), maximum).mean(axis=0, dtype="f8")
    p = levels.astype("f8") / maximum
    assert np.all(np.abs(rate - p) <= 5 * np.sqrt(p * (1 - p) / len(x)))


def test_pixels_are_drawn_independently():
    # Kills: one uniform number shared by a row, or by a column.
    drawn = binarize(np.full((400, 300), 0.5), np.random.default_rng(2))
    assert 0.4 < drawn.mean(axis=0).min() < drawn.mean(axis=0).max() < 0.6
    assert 0.3 < drawn.mean(axis=1).min() < drawn.mean(axis=1).max() < 0.7


def test_draws_are_fresh_and_reproducible():
    # Kills: a generator made (or seeded) inside.
    x, rng = load_digits().x_train[:50], np.random.default_rng(3)
    transform = partial(binarize, maximum=16)
    first, second = transform(x, rng), transform(x, rng)
    assert (first != second).any()
    again = transform(x, np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_result_has_the_dtype_asked_for(dtype):
    drawn = binarize(load_digits().x_test, np.random.default_rng(4), 16, dtype=dtype)
    assert drawn.dtype == np.dtype(dtype)
    assert set(np.unique(drawn).tolist()) == {0, 1}
    assert binarize(np.ones((1, 1)), np.random.default_rng(4)).dtype == np.float32


@pytest.mark.parametrize("maximum", [16, 255])
def test_bytes_are_never_widened_to_float64(maximum):
    # Kills: x / maximum in float64; float32 throughout needs 9 bytes a pixel at its peak.
    x = np.full((500, 784), maximum // 2, dtype="u1")
    rng = np.random.default_rng(5)
    tracemalloc.start()
    try:
        binarize(x, rng, maximum)
        assert tracemalloc.get_traced_memory()[1] < 10 * x.size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("view", ["fortran", "strided", "big-endian", "read-only"])
def test_views_give_the_same_draw(view):
    # Kills: a draw that follows the memory layout instead of the pixel.
    x = np.linspace(0, 1, 60).reshape(6, 10)
    other = {
        "fortran": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "big-endian": x.astype(">f8"),
        "read-only": x.copy(),
    }[view]
    other.flags.writeable = False
    before = other.tobytes()
    expected = binarize(x, np.random.default_rng(6))
    np.testing.assert_array_equal(binarize(other, np.random.default_rng(6)), expected)
    assert other.tobytes() == before


@pytest.mark.parametrize(
    ("x", "maximum"),
    [
        (np.array([[0.5, 1 + 1e-9]]), 1),
        (np.array([[0.5, -1e-9]]), 1),
        (np.array([[0, 255]], "u1"), 1),
        (np.array([[0, 17]], "u1"), 16),
        (np.array([[-1, 3]]), 16),
    ],
    ids=["above 1", "below 0", "grays 0-255", "count above n", "negative count"],
)
def test_values_outside_the_range_are_refused(x, maximum):
    # Kills: a clip, which would hide grays of the wrong scale.
    with pytest.raises(ValueError) as caught:
        binarize(x, np.random.default_rng(0), maximum)
    one_line(caught, f"[0, {maximum}]", f"{x.max()}", f"{x.min()}", "maximum (16")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_refused(bad):
    # Kills: NaN taken for 0, since NaN compares as False.
    with pytest.raises(ValueError, match="finite"):
        binarize(np.array([[0.5, bad]]), np.random.default_rng(0))


@pytest.mark.parametrize("maximum", [0, -16, np.nan, np.inf])
def test_maximum_must_be_finite_and_above_zero(maximum):
    with pytest.raises(ValueError, match="maximum"):
        binarize(np.zeros((2, 2)), np.random.default_rng(0), maximum)


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_rng_must_be_a_generator(rng):
    # Kills: a seed taken for a generator, which would freeze the draw.
    with pytest.raises(TypeError) as caught:
        binarize(np.zeros((2, 2)), rng)
    one_line(caught, "Generator", "default_rng")


def test_the_wines_are_those_of_the_repository():
    # kills: a row lost, a column shifted, a class that is read as a quantity
    wine = load_wine()
    assert wine.x_train.shape == (178, 13)
    assert wine.x_test is None
    assert [int((wine.y_train == c).sum()) for c in "ABC"] == [59, 71, 48]
    assert dict(zip(wine.names, wine.x_train.mean(axis=0).round(2)))["proline"] == 746.89
    np.testing.assert_allclose(wine.x_train[:, 0].mean(), 13.00062, atol=1e-5)
    np.testing.assert_array_equal(wine.x_train[-1, [0, 4, 12]], [14.13, 96, 560])


def test_the_wines_train_by_name(tmp_path):
    # kills: a named table that is read as images with a maximum
    from numpyvae.command.preparation import prepare

    data = prepare("wine", "gaussian:learned", scale="standardize")
    assert data.x_train.shape == (161, 13)
    np.testing.assert_allclose(data.x_train.std(axis=0), 1, atol=1e-5)
    assert data.classes == ("A", "B", "C")
