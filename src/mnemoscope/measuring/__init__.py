"""How much generated images have in common with training images: the comparison, and the numbers taken from it."""
