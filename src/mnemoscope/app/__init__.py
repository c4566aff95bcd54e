"""The web page: a prompt tried, a picture checked, runs read, in a browser and without a terminal."""

from mnemoscope import lazily

_HOMES = {
    "PageSubject": "app.subject",
    "served": "app.serving",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
