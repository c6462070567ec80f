"""Figures of a VAE. This is the only folder that imports matplotlib.

If the program has imported pyplot, new figures are registered with pyplot, so that notebooks and
`plt.show()` display them. Otherwise they need no display. The defaults of matplotlib are not
changed.

Color-blind readers can distinguish the colors: those of Okabe & Ito for curves and bars, Petroff's
ten with two markers for classes, viridis for values. In images high values are dark, like ink on
paper; `ax.images[0].set_cmap("gray")` makes them bright, as in photographs.

The functions share these parameters:

- `vae : VAE`
- `x : (N, D) array_like`, the datapoints
- `image_shape : (h, w)`, the height and the width of an image in pixels, with h · w = D
- `maximum : float, optional`, the value that is drawn darkest. By default it is the upper end of
  the support of the likelihood. If the support has no upper end, it is the largest value in the
  figure for counts, and 1 for real numbers; if some of these lie outside [0, 1], their range is
  drawn, and the title states it.
- `ax : Axes, optional`, the axes to draw on. By default they are those of a new figure, which is
  at most 7 inches wide.

Every function raises a TypeError or a ValueError if an argument does not fit the model or the
other arguments.
"""

from .bounds import plot_bounds, plot_comparisons, plot_rate_distortion
from .curves import plot_curves, plot_history, plot_panels
from .frames import BLUE, CLASSES, VERMILLION, save_figure  # noqa: F401, colors for the tests
from .images import image_grid, plot_manifold, plot_reconstructions, plot_samples
from .latents import plot_active_units, plot_latent_space
from .tables import plot_row_samples, plot_rows

__all__ = [
    "image_grid",
    "plot_active_units",
    "plot_bounds",
    "plot_comparisons",
    "plot_curves",
    "plot_history",
    "plot_latent_space",
    "plot_manifold",
    "plot_panels",
    "plot_rate_distortion",
    "plot_reconstructions",
    "plot_row_samples",
    "plot_rows",
    "plot_samples",
    "save_figure",
]
