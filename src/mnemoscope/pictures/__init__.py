"""Pictures from anywhere: folders, archives, tables and hub datasets, read lazily, in order, with their captions."""

from mnemoscope.pictures.decoding import decoded
from mnemoscope.pictures.picture import Missing, Picture, Unreadable, required
from mnemoscope.pictures.reading import Source, open_source, read_pictures

__all__ = ["Missing", "Picture", "Source", "Unreadable", "decoded", "open_source", "read_pictures", "required"]
