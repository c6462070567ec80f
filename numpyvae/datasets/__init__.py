"""Data to train on: embedded digits and wines, MNIST, and the draw that makes grays binary.

`load_digits` and `load_wine` need no file and no network. `load_mnist` and `load_fashion_mnist`
read the IDX files of a folder, or download them once; every byte is checked against its SHA-256.
`binarize` is the `transform` that `fit` calls on each minibatch. `read_data` reads one's own data.
"""

from .dataset import Dataset, binarize
from .digits import load_digits
from .idx import read_idx
from .mnist import load_fashion_mnist, load_mnist
from .reading import RawData, read_data
from .wine import load_wine

__all__ = [
    "Dataset",
    "RawData",
    "binarize",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_wine",
    "read_data",
    "read_idx",
]
