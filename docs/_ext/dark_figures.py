"""The dark version of a figure.

Its background becomes dark, and its black lines and texts become light; gray ones become a lighter
gray, and pale lines, as those of a grid, dark gray. Images and colors stay as they are.
"""

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

DARK, LIGHT = "#14181e", "#ced6dd"  # the background and the text of the dark theme
GRAY, GRID = "#9aa4ae", "#39414b"


def darken(figure: Figure) -> None:
    """Change the colors of a figure to those of the dark theme."""
    for artist in figure.findobj():
        if isinstance(artist, AxesImage):
            continue
        if isinstance(artist, (Text, Line2D)):
            if _is_black(artist.get_color()):
                artist.set_color(LIGHT)
            elif _is_gray(artist.get_color(), 0.35, 0.6):
                artist.set_color(GRAY)
        if isinstance(artist, Text) and artist.get_path_effects():  # the line around a label
            artist.set_path_effects([withStroke(linewidth=2.5, foreground=DARK)])
        if isinstance(artist, Line2D) and _is_gray(artist.get_color(), 0.75, 1):
            artist.set_color(GRID)
        if isinstance(artist, Line2D):  # markers
            for get, set_ in (
                (artist.get_markerfacecolor, artist.set_markerfacecolor),
                (artist.get_markeredgecolor, artist.set_markeredgecolor),
            ):
                if _is_black(get()):
                    set_(LIGHT)
        if isinstance(artist, Patch):
            face, edge = artist.get_facecolor(), artist.get_edgecolor()
            if min(face[:3]) > 0.99 and face[3] > 0:
                artist.set_facecolor(DARK)
            if _is_black(edge) and edge[3] > 0:
                artist.set_edgecolor(LIGHT)


def _is_black(color) -> bool:
    return _is_gray(color, 0, 0.35)


def _is_gray(color, darkest: float, lightest: float) -> bool:
    """Tell whether a color is a gray between two values."""
    if isinstance(color, str) and color in ("none", "None"):
        return False
    rgb = to_rgb(color)
    return max(rgb) - min(rgb) < 0.05 and darkest <= min(rgb) <= max(rgb) <= lightest
