"""Pictures of a VAE. The only folder that imports matplotlib.

Each function draws on the `ax` it is given and returns it; without one it makes a figure of its
own, 7 inches (700 pixels on a page) wide or less. That figure belongs to pyplot if the program
has imported pyplot, so that notebooks and `plt.show()` find it; otherwise it has no window and
needs no display. No default of matplotlib is changed.

Color-blind readers can tell the colors apart: Okabe & Ito's for curves and bars, Petroff's ten
for classes, viridis for a scale. High values are drawn dark, as ink on paper;
`ax.images[0].set_cmap("gray")` shows photographs as usual.
"""

from .bounds import plot_bounds, plot_comparisons, plot_rate_distortion
from .curves import plot_history
from .frames import BLUE, CLASSES, VERMILLION, save_figure  # noqa: F401, colors for the tests
from .images import image_grid, plot_manifold, plot_reconstructions, plot_samples
from .latents import plot_active_units, plot_latent_space
from .tables import plot_row_samples, plot_rows

__all__ = [
    "image_grid",
    "plot_active_units",
    "plot_bounds",
    "plot_comparisons",
    "plot_history",
    "plot_latent_space",
    "plot_manifold",
    "plot_rate_distortion",
    "plot_reconstructions",
    "plot_row_samples",
    "plot_rows",
    "plot_samples",
    "save_figure",
]
