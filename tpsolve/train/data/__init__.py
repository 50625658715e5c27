"""Data sets of the training runs: readers, and batches on the device. Nothing is ever downloaded."""

from tpsolve.train.data._cifar10 import load_cifar10
from tpsolve.train.data._digits import load_digits
from tpsolve.train.data._folders import Folders
from tpsolve.train.data._groups import Groups
from tpsolve.train.data._idx import load_fashion_mnist, load_mnist
from tpsolve.train.data._images import Images
from tpsolve.train.data._resident import Resident
from tpsolve.train.data._table_rows import TablePreprocessing

__all__ = [
    "Folders",
    "Groups",
    "Images",
    "Resident",
    "TablePreprocessing",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
]
