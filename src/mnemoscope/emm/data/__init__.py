"""Sets of small images: read, cut, labelled and written."""
