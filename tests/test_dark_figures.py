"""The dark version of the tutorials' figures: docs/_ext/dark_figures.py."""

import importlib.util
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

PATH = Path(__file__).parents[1] / "docs" / "_ext" / "dark_figures.py"
spec = importlib.util.spec_from_file_location("dark_figures", PATH)
dark_figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dark_figures)


def test_black_and_white_change_and_colors_and_images_stay():
    # Kills: black text on a dark ground, a white legend, a curve in another color than its
    # legend, gray text that is too dark, a white line around a label.
    figure = Figure()
    ax = figure.add_subplot()
    black, blue = ax.plot([0, 1], "ko-", label="a")[0], ax.plot([1, 0], color="#0072b2")[0]
    image = ax.imshow(np.zeros((2, 2)), cmap="gray")
    grid = ax.axhline(0.5, color="0.9")
    pixels = image.to_rgba(image.get_array()).copy()
    title, legend = ax.set_title("title"), ax.legend()
    outline = withStroke(linewidth=2, foreground="white")
    label = ax.text(0, 0, "label", color="0.4", path_effects=[outline])
    dark_figures.darken(figure)
    light = [title.get_color(), black.get_color(), black.get_markerfacecolor()]
    light += [ax.spines["left"].get_edgecolor(), legend.get_texts()[0].get_color()]
    assert {to_hex(color) for color in light} == {dark_figures.LIGHT}
    grounds = [figure.get_facecolor(), ax.get_facecolor(), legend.get_frame().get_facecolor()]
    assert {to_hex(color) for color in grounds} == {dark_figures.DARK}
    assert to_hex(grid.get_color()) == dark_figures.GRID
    assert label.get_color() == dark_figures.GRAY
    assert label.get_path_effects()[0]._gc["foreground"] == dark_figures.DARK
    assert blue.get_color() == "#0072b2"
    np.testing.assert_array_equal(image.to_rgba(image.get_array()), pixels)
