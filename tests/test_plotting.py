"""Figures show the right numbers in the right places, name the units, and are closed."""

import itertools
import struct
import subprocess
import sys
import warnings
from statistics import NormalDist

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from numpyvae import VAE, History, mean_terms, plotting
from numpyvae.bounds import Comparison, Estimate, ImportanceCurve
from numpyvae.diagnostics import RateDistortion

DEFAULTS = dict(
    matplotlib.rcParams
)  # before anything is drawn, so that every figure left open is detected
RNG = np.random.default_rng(7)
SHAPE = (2, 3)
X = RNG.integers(0, 2, (30, 6)).astype(float)
LABELS = np.arange(30) % 10
PLANE = VAE(6, 2, hidden=(5,), dtype="float64", seed=1)
LINE = VAE(6, 1, hidden=(5,), dtype="float64", seed=1)
SPACE = VAE(6, 5, hidden=(5,), dtype="float64", seed=1)


def history(epochs=4, valid=True):
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "elbo": -40 / epoch, "reconstruction": -36 / epoch, "kl": 4 / epoch}
        if valid:
            row |= {f"valid_{name}": 2 * row[name] for name in ("elbo", "reconstruction", "kl")}
        rows.append(row)
    return History(rows)


def level(name, mean, curve=None):
    return Estimate(name, np.array([mean - 1.0, mean + 1.0]), 0.1, curve=curve)


def comparison(**extra):
    """ELBO −9, L_k from −9 to −7.2, AIS −7.1, and the given others."""
    k = np.array([1, 2, 5, 10])
    curve = ImportanceCurve(k, np.array([-9.0, -8.0, -7.5, -7.2])[:, None] + np.array([-1.0, 1]))
    found = [level("elbo", -9.0), level("iwae", -7.2, curve), level("ais", -7.1)]
    found += [level(name.replace("_", "-"), mean) for name, mean in extra.items()]
    return Comparison({e.name: e for e in found}, 10, 300, 8)


POINTS = [
    RateDistortion((rate, 0.1), (distortion, 0.2), (-rate - distortion, 0.2))
    for rate, distortion in ((8.0, 16.5), (2.0, 24.0), (5.0, 18.0))
]

DRAW = {
    "history": lambda ax=None: plotting.plot_history(history(), ax=ax),
    "grid": lambda ax=None: plotting.image_grid(X, SHAPE, ax=ax),
    "reconstructions": lambda ax=None: plotting.plot_reconstructions(PLANE, X, SHAPE, ax=ax),
    "samples": lambda ax=None: plotting.plot_samples(PLANE, SHAPE, ax=ax),
    "rows": lambda ax=None: plotting.plot_rows(PLANE, X[:3], ax=ax),
    "row samples": lambda ax=None: plotting.plot_row_samples(PLANE, n=20, ax=ax),
    "manifold": lambda ax=None: plotting.plot_manifold(PLANE, SHAPE, ax=ax, n=3),
    "plane": lambda ax=None: plotting.plot_latent_space(PLANE, X, LABELS, ax=ax),
    "values": lambda ax=None: plotting.plot_latent_space(PLANE, X, X @ np.arange(6), ax=ax),
    "space": lambda ax=None: plotting.plot_latent_space(SPACE, X, ax=ax),
    "line": lambda ax=None: plotting.plot_latent_space(LINE, X, LABELS, ax=ax),
    "histogram": lambda ax=None: plotting.plot_latent_space(LINE, X, ax=ax),
    "bounds": lambda ax=None: plotting.plot_bounds(comparison(reverse_ais=-7.0), ax=ax),
    "rate": lambda ax=None: plotting.plot_rate_distortion(POINTS, ["a", "b", "c"], ax=ax),
    "units": lambda ax=None: plotting.plot_active_units(SPACE, X, ax=ax),
}
every_picture = pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW.keys())


def pixels(ax):
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Rules for every figure.


@every_picture
def test_draws_on_the_given_ax_and_opens_no_figure(draw):
    ax = Figure().add_subplot()
    assert draw(ax) is ax
    assert ax.has_data()
    assert plt.get_fignums() == []


@every_picture
def test_without_ax_makes_one_figure_that_pyplot_can_show(draw):
    ax = draw()
    assert plt.get_fignums() == [ax.figure.number]


@every_picture
def test_neither_changes_defaults_nor_uses_a_default_layout(draw, tmp_path):
    with matplotlib.rc_context({"figure.autolayout": True}):
        plotting.save_figure(draw(), tmp_path / "picture.png", dpi=30)
        assert dict(matplotlib.rcParams) == DEFAULTS | {"figure.autolayout": True}


@every_picture
def test_all_text_is_inside_the_figure(draw):
    # A margin that is too small cuts off the axis label or the legend.
    ax = draw()
    figure = ax.figure
    words = ax.get_tightbbox(figure.canvas.get_renderer())
    assert words.x0 >= 0
    assert words.y0 >= 0
    assert words.x1 <= figure.bbox.width
    assert words.y1 <= figure.bbox.height
    assert figure.get_size_inches()[0] <= 7  # 700 pixels at the usual 100 an inch


@pytest.mark.parametrize(
    ("picture", "x", "y"),
    [
        ("history", "epoch", "nats per datapoint"),
        ("manifold", "z[0]  (prior standard deviations)", "z[1]  (prior standard deviations)"),
        ("plane", "μ[0]  (prior standard deviations)", "μ[1]  (prior standard deviations)"),
        ("line", "μ[0]  (prior standard deviations)", "label"),
        ("histogram", "μ[0]  (prior standard deviations)", "density"),
        ("bounds", "k, importance samples", "nats per datapoint"),
        ("rate", "rate, nats per datapoint", "distortion, nats per datapoint"),
        ("units", "latent j, largest KL first", "KL, nats per datapoint"),
    ],
)
def test_axis_labels_have_a_quantity_and_a_unit(picture, x, y):
    ax = DRAW[picture]()
    assert (ax.get_xlabel(), ax.get_ylabel()) == (x, y)
    assert ax.axison  # an axis that is switched off hides its labels


def test_needs_no_pyplot_and_so_no_display(tmp_path):
    script = (
        "import sys; from numpyvae import VAE, plotting; "
        "plotting.save_figure(plotting.plot_samples(VAE(6, 2), (2, 3)), sys.argv[1]); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    path = tmp_path / "samples.png"
    subprocess.run([sys.executable, "-c", script, path], check=True)
    assert path.stat().st_size > 1000


# Training curves.


def curves(ax):
    return [line.get_ydata() for line in ax.lines]


def test_history_draws_elbo_and_reconstruction_with_the_kl_between():
    h = history(valid=False)
    ax = plotting.plot_history(h)
    upper, lower = curves(ax)
    np.testing.assert_array_equal(upper, h["reconstruction"])
    np.testing.assert_array_equal(lower, h["elbo"])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3, 4])
    band = ax.collections[0].get_paths()[0].vertices
    for epoch, low, high in zip(h["epoch"], h["elbo"], h["reconstruction"]):
        assert {low, high} == set(band[1:-1][band[1:-1, 0] == epoch][:, 1])
    assert legend_texts(ax) == ["reconstruction  −9.00", "KL  1.00", "ELBO  −10.00"]
    assert "training set" in ax.get_title(loc="left")


def test_history_prefers_validation_and_keeps_training_dashed():
    h = history()
    ax = plotting.plot_history(h)
    names = ("valid_reconstruction", "valid_elbo", "reconstruction", "elbo")
    for curve, name in zip(curves(ax), names, strict=True):
        np.testing.assert_array_equal(curve, h[name])
    assert [line.is_dashed() for line in ax.lines] == [False, False, True, True]
    assert legend_texts(ax)[:3] == ["reconstruction  −18.00", "KL  2.00", "ELBO  −20.00"]
    assert "validation set" in ax.get_title(loc="left")


def test_history_where_validation_began_later_is_drawn_from_there():
    h = History(history(2, valid=False).rows + history(3).rows)
    np.testing.assert_array_equal(np.isnan(curves(plotting.plot_history(h))[1]), [1, 1, 0, 0, 0])


def test_history_of_one_epoch_is_visible():
    # A line through one point is invisible unless the point has a marker.
    ax = plotting.plot_history(history(1))
    assert all(line.get_marker() == "o" for line in ax.lines[:2])


def test_empty_history_is_refused():
    with pytest.raises(ValueError, match="at least one epoch"):
        plotting.plot_history(History())


def test_history_shows_an_objective_that_is_not_the_elbo():
    # Kills: a weighted objective that a reader takes for the ELBO, or a line drawn twice.
    plain, weighted = history(3, valid=False), history(3, valid=False)
    for row in plain.rows:
        row["objective"] = row["elbo"]
    for row in weighted.rows:
        row["objective"] = row["elbo"] - 1.5
    assert len(plotting.plot_history(plain).lines) == 2
    ax = plotting.plot_history(weighted)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), weighted["elbo"] - 1.5)
    assert "training objective" in ax.get_legend().get_texts()[-1].get_text()


# Tiles.


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 12),
    shape=st.tuples(st.integers(24, 27), st.integers(24, 27)),
    columns=st.integers(1, 13) | st.none(),
)
def test_tiles_are_in_reading_order_and_upright(count, shape, columns):
    # Kills a transposed image, a swapped height and width, tiles laid column by column.
    h, w = shape
    images = np.arange(count * h * w, dtype=float).reshape(count, -1)
    ax = plotting.image_grid(images, shape, ax=Figure().add_subplot(), columns=columns)
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    drawn = pixels(ax)
    assert drawn.shape == (rows * (h + 1) - 1, columns * (w + 1) - 1)
    for i in range(rows * columns):
        y, x = (i // columns) * (h + 1), (i % columns) * (w + 1)
        tile = drawn[y : y + h, x : x + w]
        if i < count:
            np.testing.assert_array_equal(tile, images[i].reshape(h, w))
        else:
            assert np.isnan(tile).all()  # nothing is drawn where there is no image
    bottom, top = ax.get_ylim()
    assert top < bottom  # the first row is on top
    assert ax.images[0].origin == "upper"


def test_small_images_are_enlarged_by_whole_pixels():
    # 2 × 3 pixels, each 12 × 12: 24 × 36, with gaps of one.
    images = np.arange(24.0).reshape(4, 6)
    drawn = pixels(plotting.image_grid(images, SHAPE))
    assert drawn.shape == (2 * 24 + 1, 2 * 36 + 1)
    enlarged = np.kron(images[1].reshape(SHAPE), np.ones((12, 12)))
    np.testing.assert_array_equal(drawn[:24, 37:], enlarged)


def test_gaps_are_light_at_any_scale():
    drawn = pixels(plotting.image_grid(np.zeros((4, 6)), SHAPE, maximum=16))
    np.testing.assert_allclose(drawn[24], 0.15 * 16)
    np.testing.assert_allclose(drawn[:, 36], 0.15 * 16)


def test_reconstructions_are_below_their_data():
    x = RNG.random((5, 24 * 25))
    vae = VAE(24 * 25, 2, hidden=(), dtype="float64")
    drawn = pixels(plotting.plot_reconstructions(vae, x, (24, 25), columns=3))
    means = vae.reconstruct(x)
    height, width = 2 * 24 + 1 + 2, 25 + 2  # a pair, and the gap of two between pairs
    assert drawn.shape == (2 * height - 2, 3 * width - 2)
    for i in range(5):
        pair = drawn[(i // 3) * height :, (i % 3) * width :][:, :25]
        np.testing.assert_array_equal(pair[:24], x[i].reshape(24, 25))
        np.testing.assert_allclose(pair[25:49], means[i].reshape(24, 25), rtol=1e-12)


def test_reconstructions_are_ten_in_a_row():
    drawn = pixels(plotting.plot_reconstructions(PLANE, X[:12], SHAPE))
    assert drawn.shape == (2 * (2 * 24 + 1) + 2, 10 * (36 + 2) - 2)
    drawn = pixels(plotting.plot_reconstructions(PLANE, X[:3], SHAPE))
    assert drawn.shape == (2 * 24 + 1, 3 * (36 + 2) - 2)


def test_samples_are_means_of_draws_from_the_prior():
    # Kills a figure of binary draws, and one that ignores n or the seed.
    vae = VAE(24 * 25, 2, hidden=(), dtype="float64")
    drawn = pixels(plotting.plot_samples(vae, (24, 25), n=2, seed=3))
    means = vae.sample(2, 3, mean=True)
    np.testing.assert_allclose(drawn[:, :25], means[0].reshape(24, 25), rtol=1e-12)
    np.testing.assert_allclose(drawn[:, 26:], means[1].reshape(24, 25), rtol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "maximum", "full"),
    [
        ("bernoulli", None, 1),
        ("binomial:16", None, 16),
        ("gaussian:0.5", None, 1),
        ("gaussian:head", 255, 255),
    ],
)
def test_the_darkest_value_is_the_largest_value_of_the_likelihood(likelihood, maximum, full):
    vae = VAE(6, 2, hidden=(), likelihood=likelihood)
    vae.parameters.flat[:] = 0  # the means of Gaussians lie in [0, 1]
    for ax in (
        plotting.plot_samples(vae, SHAPE, maximum=maximum),
        plotting.plot_reconstructions(vae, X, SHAPE, maximum=maximum),
        plotting.plot_manifold(vae, SHAPE, maximum=maximum),
    ):
        assert ax.images[0].get_clim() == (0, full)


def test_real_numbers_outside_the_unit_interval_are_drawn_over_their_range():
    # Kills pictures of standardized data whose dark half is white, without a word about it.
    vae = VAE(6, 2, hidden=(), likelihood="gaussian:0.5")
    x = 10 * X - 4
    ax = plotting.plot_reconstructions(vae, x, SHAPE)
    assert ax.images[0].get_clim() == (x.min(), x.max())
    assert f"black {x.max():.3g})" in ax.get_title(loc="left")
    vae.parameters["decoder.b0"][:] = 30
    low, high = plotting.plot_samples(vae, SHAPE).images[0].get_clim()
    assert 20 < low < 30 < high < 40
    drawn = plotting.image_grid(x, SHAPE, minimum=-4, maximum=6)
    assert drawn.images[0].get_clim() == (-4, 6)
    with pytest.raises(ValueError, match="minimum: expected a number below the maximum"):
        plotting.image_grid(x, SHAPE, minimum=6, maximum=6)


def test_gray_originals_and_classes_stand_above_the_binary_data():
    # Kills a picture in which binary data are taken for the originals, and swapped classes.
    x = np.round(X[:3])
    ax = plotting.plot_reconstructions(PLANE, x, SHAPE, original=X[:3], labels=["a", "b", "c"])
    drawn = pixels(ax)
    for i in range(3):
        tile = drawn[12:, i * 38 :][:, :36]  # below the rows for the class
        np.testing.assert_allclose(tile[:24:12, ::12].ravel(), X[i])
        np.testing.assert_array_equal(tile[25:49:12, ::12].ravel(), x[i])
        means = PLANE.reconstruct(x[i : i + 1]).ravel()
        np.testing.assert_allclose(tile[50:74:12, ::12].ravel(), means, rtol=1e-6)
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    at = [text.get_position()[0] for text in ax.texts]
    assert at == [18, 38 + 18, 76 + 18]
    with pytest.raises(ValueError, match="original"):
        plotting.plot_reconstructions(PLANE, x, SHAPE, original=X[:2])
    with pytest.raises(ValueError, match="labels: expected shape"):
        plotting.plot_reconstructions(PLANE, x, SHAPE, labels=[1, 2])


@pytest.mark.parametrize("D", [5, 40])
def test_rows_of_tables_are_bars_or_curves(D):
    # Kills a bar of another row or column, and a table drawn as an image.
    vae = VAE(D, 2, (4,), likelihood="gaussian:0.5", dtype="float64")
    x = RNG.normal(size=(3, D))
    names = [f"c{i}" for i in range(D)]
    ax = plotting.plot_rows(vae, x, names=names)
    assert not ax.images
    means = vae.reconstruct(x)
    if D == 5:
        heights = np.reshape([bar.get_height() for bar in ax.patches], (3, 2, D))
        np.testing.assert_allclose(heights, np.stack([x, means], axis=1))
        assert [label.get_text() for label in ax.get_xticklabels()] == names
    else:
        curves = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == D]
        bases = [line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2]
        for i in range(3):
            np.testing.assert_allclose(curves[2 * i], bases[i] + x[i])
            np.testing.assert_allclose(curves[2 * i + 1], bases[i] + means[i])
    drawn = plotting.plot_row_samples(vae, names=names, n=50, seed=3)
    middle = np.median(vae.sample(50, 3), axis=0)
    assert any(
        np.allclose(line.get_ydata(), middle) for line in drawn.lines if len(line.get_ydata()) == D
    )
    with pytest.raises(ValueError, match="names: expected"):
        plotting.plot_rows(vae, x, names=["a"])


def test_high_values_are_dark_and_can_be_inverted():
    ax = plotting.image_grid([[0.0, 1.0]], (1, 2))
    shades = ax.images[0].to_rgba(np.array([0.0, 1.0]))[:, 0]
    assert shades.tolist() == [1, 0]
    ax.images[0].set_cmap("gray")
    assert ax.images[0].to_rgba(np.array([0.0, 1.0]))[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((X, (2, 4)), {}, ValueError, r"h \* w = 6, got \(2, 4\)"),
        ((X, 6), {}, ValueError, "image_shape"),
        ((X, (6,)), {}, ValueError, "image_shape"),
        ((X, (1, 2, 3)), {}, ValueError, "image_shape"),
        ((X, (-2, -3)), {}, ValueError, "image_shape"),
        ((X, (2.0, 3)), {}, ValueError, "image_shape"),
        ((X[0], SHAPE), {}, ValueError, "2-D"),
        ((X[:0], SHAPE), {}, ValueError, "at least one row"),
        ((X * np.nan, SHAPE), {}, ValueError, "finite"),
        ((X * 1j, SHAPE), {}, TypeError, "real numbers"),
        ((X, SHAPE), {"columns": 0}, ValueError, "columns"),
        ((X, SHAPE), {"columns": 2.5}, TypeError, "columns"),
        ((X, SHAPE), {"maximum": 0}, ValueError, "maximum"),
        ((X, SHAPE), {"maximum": np.nan}, ValueError, "maximum"),
    ],
)
def test_image_grid_refuses_bad_shapes_and_opens_no_figure(arguments, options, error, match):
    with pytest.raises(error, match=match):
        plotting.image_grid(*arguments, **options)
    assert plt.get_fignums() == []


# Manifold.


def test_manifold_decodes_the_quantiles_of_the_prior():
    # Kills swapped latents, z[1] growing downwards, and a grid that is even in z.
    vae = VAE(24 * 25, 2, hidden=(7,), dtype="float64", seed=3)
    ax = plotting.plot_manifold(vae, (24, 25), n=4)
    drawn = pixels(ax)
    assert drawn.shape == (4 * 25 - 1, 4 * 26 - 1)
    quantile = stats.norm.ppf([0.125, 0.375, 0.625, 0.875])
    for row, column in itertools.product(range(4), range(4)):
        mean = vae.decode([[quantile[column], quantile[3 - row]]])[0]
        tile = drawn[row * 25 :, column * 26 :][:24, :25]
        np.testing.assert_allclose(tile, mean.reshape(24, 25), rtol=1e-12)
    assert ax.get_ylim() == (0, 1)
    assert ax.images[0].get_extent() == [0, 1, 0, 1]


def test_manifold_ticks_are_at_the_quantiles():
    ax = plotting.plot_manifold(PLANE, SHAPE)
    for axis in (ax.xaxis, ax.yaxis):
        assert [text.get_text() for text in axis.get_ticklabels()] == ["−2", "−1", "0", "1", "2"]
        below = [NormalDist().cdf(z) for z in (-2, -1, 0, 1, 2)]
        np.testing.assert_allclose(axis.get_ticklocs(), below)


def test_manifold_keeps_the_pixels_square():
    ax = plotting.plot_manifold(PLANE, SHAPE, n=5)
    ax.figure.canvas.draw()
    box, (height, width) = ax.get_window_extent(), pixels(ax).shape
    assert box.width / box.height == pytest.approx(width / height)


@pytest.mark.parametrize("vae", [LINE, SPACE])
def test_manifold_needs_two_latents(vae):
    with pytest.raises(ValueError, match="latent_dim 2"):
        plotting.plot_manifold(vae, SHAPE)


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (2.5, TypeError)])
def test_manifold_refuses_a_bad_size(n, error):
    with pytest.raises(error, match="n: expected a whole number"):
        plotting.plot_manifold(PLANE, SHAPE, n=n)


# Latent space.


def linear_encoder(scales):
    """Return a VAE with μ_j(x) = scales_j · x_j and σ = 1."""
    J = len(scales)
    vae = VAE(6, J, hidden=(), dtype="float64")
    vae.parameters["encoder.W0"][:] = 0
    vae.parameters["encoder.W0"][range(J), range(J)] = scales
    return vae


def test_latent_space_draws_the_two_most_active_and_names_them():
    # Kills: the first two, the two with the largest mean, σ in place of μ, swapped axes.
    vae = linear_encoder([0.3, 0.1, 3, 0, 1])
    vae.parameters["encoder.b0"][1] = 50  # a large mean is no activity
    x = RNG.random((40, 6))
    ax = plotting.plot_latent_space(vae, x)
    drawn = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(drawn, np.column_stack([3 * x[:, 2], x[:, 4]]))
    assert ax.get_xlabel().startswith("μ[2]")
    assert ax.get_ylabel().startswith("μ[4]")
    assert "of 5 latents" in ax.get_title(loc="left")


def test_two_latents_keep_their_order():
    x = RNG.random((40, 6))
    ax = plotting.plot_latent_space(linear_encoder([1, 3]), x)
    drawn = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(drawn, np.column_stack([x[:, 0], 3 * x[:, 1]]))


@pytest.mark.parametrize("kind", [int, str, np.uint8])
def test_points_have_the_color_of_their_class_in_the_legend(kind):
    labels = np.array([5, 3, 9, 3, 5, 5]).astype(kind)
    ax = plotting.plot_latent_space(linear_encoder([1, 1]), X[:6], labels)
    assert legend_texts(ax) == ["3", "5", "9"]
    handles = ax.get_legend().legend_handles
    color = {text: to_hex(h.get_color()) for text, h in zip(legend_texts(ax), handles)}
    drawn = [to_hex(c) for c in ax.collections[0].get_facecolors()]
    assert drawn == [color[str(label)] for label in labels]


def test_a_class_is_named_where_its_points_are():
    x = np.zeros((9, 6))
    x[:3, 0], x[3:6, 0], x[6:, 1] = 2, -2, 2
    ax = plotting.plot_latent_space(linear_encoder([1, 1]), x, np.repeat([4, 7, 8], 3))
    places = {text.get_text(): text.get_position() for text in ax.texts}
    for name, place in {"4": (2, 0), "7": (-2, 0), "8": (0, 2)}.items():
        np.testing.assert_allclose(places[name], place)


def test_labels_of_classes_in_one_place_do_not_overlap():
    x = np.zeros((4, 6))
    x[2:, 0] = 0.01
    ax = plotting.plot_latent_space(linear_encoder([1, 1]), x, [1, 1, 2, 2])
    first, second = (text for text in ax.texts if text.get_text() in "12")
    renderer = ax.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in (first, second)]
    assert boxes[0].x1 <= boxes[1].x0


def test_circles_contain_half_and_95_percent_of_the_prior():
    ax = plotting.plot_latent_space(PLANE, X)
    radii = [circle.radius for circle in ax.patches]
    np.testing.assert_allclose(stats.chi2(2).cdf(np.square(radii)), [0.5, 0.95])
    assert ax.get_aspect() == 1


def test_many_numbers_share_a_scale():
    values = np.arange(30) / 7
    ax = plotting.plot_latent_space(PLANE, X, values)
    assert ax.collections[0].get_cmap().name == "viridis"
    np.testing.assert_array_equal(ax.collections[0].get_array(), values)
    (scale,) = ax.child_axes
    assert scale.get_ylabel() == "label"


def test_one_latent_has_a_row_for_each_class():
    x, labels = RNG.random((6, 6)), np.array([2, 0, 2, 1, 1, 2])
    ax = plotting.plot_latent_space(linear_encoder([1]), x, labels)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1", "2"]
    for row, line in enumerate(ax.lines):
        np.testing.assert_allclose(line.get_xdata(), x[labels == row, 0])
        assert set(line.get_ydata()) == {row}


def test_one_latent_against_many_numbers_is_a_scatter():
    x = RNG.random((30, 6))
    ax = plotting.plot_latent_space(linear_encoder([1]), x, np.arange(30))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), x[:, 0])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.arange(30))


def test_one_latent_without_labels_is_a_density_beside_the_prior():
    ax = plotting.plot_latent_space(linear_encoder([1]), RNG.random((200, 6)))
    assert sum(bar.get_width() * bar.get_height() for bar in ax.patches) == pytest.approx(1)
    z, density = ax.lines[0].get_data()
    np.testing.assert_allclose(density, stats.norm.pdf(z))


@pytest.mark.parametrize("vae", [LINE, PLANE, SPACE])
def test_one_datapoint_is_enough(vae):
    plotting.plot_latent_space(vae, X[:1], [3])
    plotting.plot_latent_space(vae, X[:1])


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        (LABELS[:-1], ValueError, r"shape \(30,\).*got \(29,\)"),
        (LABELS[:, None], ValueError, "shape"),
        (LABELS.astype(object), TypeError, "numbers or texts"),
        (LABELS * 1j, TypeError, "numbers or texts"),
        (np.where(LABELS, LABELS, np.nan), ValueError, "finite"),
        ([f"class {i}" for i in range(30)], ValueError, "at most 10 classes, got 30"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, error, match):
    with pytest.raises(error, match=match):
        plotting.plot_latent_space(PLANE, X, labels)
    assert plt.get_fignums() == []


# Linear RGB as three kinds of color-blind readers see it: Machado, Oliveira & Fernandes 2009.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(rgb, vision):
    """Return CIE L*a*b* of sRGB colors (N, 3) as seen by someone."""
    rgb = np.asarray(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(vision), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
    to_xyz.append([0.0193339, 0.1191920, 0.9503041])
    xyz = seen @ np.transpose(to_xyz) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    differences = 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])
    return np.column_stack([116 * f[:, 1] - 16, *differences])


def closest(colors, vision):
    seen = lab([to_rgb(c) for c in colors], vision)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("vision", VISION.values(), ids=VISION.keys())
def test_color_blind_readers_can_distinguish_ten_classes(vision):
    assert closest(plotting.CLASSES, vision) > 15
    assert closest((plotting.BLUE, plotting.VERMILLION), vision) > 15


def test_the_color_check_rejects_a_bad_palette():
    assert closest(matplotlib.color_sequences["tab10"], VISION["protanopia"]) < 5


# Active units.


def test_bars_are_the_kl_of_each_latent_and_add_up_to_the_term_of_the_elbo():
    # Kills: unsorted bars, ticks without the order, a sum over x for the mean, a missing ½.
    vae = linear_encoder([0.5, 0, 3, 1])
    x = RNG.integers(0, 2, (50, 6)).astype(float)
    ax = plotting.plot_active_units(vae, x)
    heights = [bar.get_height() for bar in ax.patches]
    kl = 0.5 * np.mean((x[:, :4] * [0.5, 0, 3, 1]) ** 2, axis=0)  # σ = 1: only μ² is left
    order = [2, 3, 0, 1]
    np.testing.assert_allclose(heights, kl[order], rtol=1e-12)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "3", "0", "1"]
    assert sum(heights) == pytest.approx(mean_terms(vae, x).kl)
    assert f"{kl.sum():.2f} nats" in ax.get_title(loc="left")


@pytest.mark.parametrize(("threshold", "active"), [(0.01, 3), (0.1, 2)])
def test_collapsed_latents_have_a_ring(threshold, active):
    vae = linear_encoder([0.5, 0, 3, 1])
    ax = plotting.plot_active_units(vae, np.eye(6)[[0, 2, 3] * 9], threshold=threshold)
    assert ax.lines[0].get_xdata().tolist() == list(range(active, 4))
    blue = [to_hex(bar.get_facecolor()) == plotting.BLUE.lower() for bar in ax.patches]
    assert blue == [j < active for j in range(4)]
    assert legend_texts(ax)[0] == f"{active} active: Var(μ) > {threshold:g}"
    assert legend_texts(ax)[1] == f"{4 - active} collapsed"


def test_a_posterior_equal_to_the_prior_draws_no_warning():
    # All bars are zero: an axis from 0 to 0 warns.
    ax = plotting.plot_active_units(linear_encoder([0, 0]), X)
    assert legend_texts(ax)[1] == "2 collapsed"


def test_numbers_of_many_latents_do_not_overlap():
    ax = plotting.plot_active_units(VAE(6, 200, hidden=()), X)
    assert 20 <= len(ax.get_xticklabels()) <= 25
    assert len(ax.patches) == 200


# Bounds, rate and distortion.


def test_bounds_are_at_their_values_and_in_order_in_the_legend():
    # Kills: a level of another bound, L_k at the wrong k, a legend that names the wrong line.
    ax = plotting.plot_bounds(comparison(reverse_ais=-7.0, exact=-7.05, eubo=3.0))
    drawn = {line.get_label(): line for line in ax.lines}
    levels = sorted(line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2)
    np.testing.assert_allclose(levels, [-9, -7.1, -7.05, -7.0, 3.0])
    (curve,) = (line for line in drawn.values() if len(line.get_xdata()) == 4)
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 5, 10])
    np.testing.assert_allclose(curve.get_ydata(), [-9, -8, -7.5, -7.2])
    texts = legend_texts(ax)
    assert texts == [
        "EUBO, upper bound  3.000  ↑",  # beyond the axis
        "reverse AIS, upper bound  −7.000",
        "log p(x), exact  −7.050",
        "AIS, lower bound  −7.100",
        "$L_k$, lower bound  −7.200 at k = 10",
        "ELBO, lower bound  −9.000",
    ]
    heights = [h.get_ydata()[-1] for h in ax.get_legend().legend_handles]
    assert len(heights) == 6
    low, high = ax.get_ylim()
    assert low < -9
    assert -7 < high < 3
    assert ax.get_xscale() == "log"


def test_bounds_of_one_kind_alone_are_drawn():
    # Kills: a figure that needs L_k, or a lower bound, or more than one row.
    one = Comparison({"eubo": Estimate("eubo", np.array([2.0]))}, 1, 1, 1)
    ax = plotting.plot_bounds(one)
    assert "1 datapoint" in ax.get_title(loc="left")
    assert ax.get_ylim()[0] < 2 < ax.get_ylim()[1]


def test_test_and_simulated_data_share_a_scale():
    # Kills: two panels in which equal gaps look different, or with each other's title.
    parts = {"test": comparison(), "simulated": comparison(reverse_ais=-4.0)}
    figure = plotting.plot_comparisons(parts)
    above, below = figure.axes
    assert np.ptp(above.get_ylim()) == pytest.approx(np.ptp(below.get_ylim()))
    assert above.get_title(loc="left").startswith("Test data")
    assert "reverse AIS" in legend_texts(below)[0]
    with pytest.raises(ValueError, match="at least one comparison, got none"):
        plotting.plot_comparisons({})


def test_rate_and_distortion_are_on_their_axes_and_lines_join_equal_elbos():
    # Kills: axes that are swapped, points joined in the order given, lines of another slope, a
    # label on another line, or where the curve is.
    ax = plotting.plot_rate_distortion(POINTS, ["a", "b", "c"])
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 3)
    np.testing.assert_array_equal(curve.get_xdata(), [2, 5, 8])
    np.testing.assert_array_equal(curve.get_ydata(), [24, 18, 16.5])
    names = {text.get_text(): text.xy for text in ax.texts}
    assert names["b"] == (2, 24)
    thin = [line for line in ax.lines if line.get_color() == "0.8"]
    assert len(thin) >= 3
    for line in thin:
        total = line.get_xdata() + line.get_ydata()
        assert np.ptp(total) < 1e-9
        place = np.array(names[f"−{total[0]:g}"])
        assert place.sum() == pytest.approx(total[0])
        right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
        assert place[0] > 8 or place[1] == pytest.approx(bottom)  # 8 is the last point's rate
        assert place[0] < right
    with pytest.raises(ValueError, match="at least one"):
        plotting.plot_rate_distortion([])
    with pytest.raises(ValueError, match="each of 3 points, got 1"):
        plotting.plot_rate_distortion(POINTS, ["a"])


def test_the_axis_of_rates_begins_at_zero():
    # Kills: an axis with negative rates, since a KL has none, and a marker that is cut at 0.
    collapsed = RateDistortion((0.0, 0.0), (25.0, 0.2), (-25.0, 0.2))
    ax = plotting.plot_rate_distortion([collapsed, *POINTS])
    assert ax.get_xlim()[0] == 0
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 4)
    assert not curve.get_clip_on()


def test_a_bound_is_a_line_and_not_a_band():
    # Kills: a wide line that looks like an interval.
    ax = plotting.plot_bounds(comparison(reverse_ais=-7.0, exact=-7.05))
    assert max(line.get_linewidth() for line in ax.lines) <= 2


def test_classes_with_similar_colors_have_different_markers():
    # Kills: two classes that differ by a shade alone.
    vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    ax = plotting.plot_latent_space(vae, np.eye(64)[:40], np.arange(40) % 10)
    keys = [(h.get_marker(), to_rgb(h.get_color())) for h in ax.get_legend().legend_handles]
    for (marker, color), (other, shade) in itertools.combinations(keys, 2):
        assert marker != other or np.linalg.norm(np.subtract(color, shade)) > 0.3
    (dots,) = ax.collections
    drawn = [len(path.vertices) for path in dots.get_paths()]
    assert drawn[0] == drawn[10] != drawn[5] == drawn[15]


# Files.


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_equal_figures_give_equal_bytes_on_any_day(suffix, tmp_path, monkeypatch):
    contents = []
    for day in (1, 2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(day * 86400))
        path = tmp_path / f"{day}{suffix}"
        plotting.save_figure(DRAW["plane"](), path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert len(contents[0]) > 1000


def test_axes_without_a_figure_are_refused(tmp_path):
    # kills: an AttributeError of NoneType for axes that were removed from their figure
    ax = Figure().add_subplot()
    ax.remove()
    with pytest.raises(ValueError, match="figure: expected Axes on a figure, got Axes removed"):
        plotting.save_figure(ax, tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["figure", "axes", "subfigure"])
def test_saving_writes_the_whole_figure_and_closes_it(part, tmp_path):
    figure = plt.figure(figsize=(7, 2))
    sub = figure.subfigures(1, 2)[0]
    ax = plotting.plot_history(history(), ax=sub.subplots())
    path = tmp_path / "history.png"
    plotting.save_figure({"figure": figure, "axes": ax, "subfigure": sub}[part], path)
    assert plt.get_fignums() == []
    assert struct.unpack(">2I", path.read_bytes()[16:24]) == (1050, 300)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("picture", ValueError, ".png, .svg or .pdf"),
        ("picture.docx", ValueError, ".png, .svg or .pdf"),
        ("nowhere/picture.png", OSError, "nowhere"),
    ],
)
def test_a_path_that_cannot_be_written_leaves_nothing(name, error, match, tmp_path):
    with pytest.raises(error, match=match):
        plotting.save_figure(DRAW["grid"](), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert plt.get_fignums() == []


def test_a_failed_drawing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    path.write_bytes(b"before")

    def fail(self, file, **_):
        file.write(b"half")
        raise MemoryError

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(MemoryError):
        plotting.save_figure(DRAW["grid"](), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_figures_are_saved(tmp_path):
    with pytest.raises(TypeError, match="a Figure or an Axes, got int"):
        plotting.save_figure(3, tmp_path / "three.png")


def test_twenty_five_saved_figures_leave_none_open(tmp_path):
    # matplotlib warns at the 21st open figure.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            plotting.save_figure(DRAW["grid"](), tmp_path / "grid.png", dpi=20)
