"""How the images of a training set can be labelled."""

from typing import Literal

LabelMode = Literal["none", "true", "random", "random-iid", "unique", "constant", "permuted"]
