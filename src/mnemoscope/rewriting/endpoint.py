"""A chat-completions endpoint: its address, its key, and one request to it."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mnemoscope.errors import UsageError
from mnemoscope.rewriting.passage import NotRewritten
from mnemoscope.run.reading import parsed

OPENAI = "https://api.openai.com/v1"
KEYS = ("MNEMOSCOPE_API_KEY", "OPENAI_API_KEY")
LIMITS = {"max_tokens": 400, "max_completion_tokens": 4000}  # by the name of the limit; the second counts reasoning too
OF_ONE_PROMPT = ("content_filter", "context_length_exceeded")  # codes of a 400 that says nothing of other requests
REFUSED = {401: "refused the key", 403: "refused the key's rights", 404: "has no such model or path"}
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible chat-completions endpoint and the model behind it, with what bounds a request.

    A request that meets status 408, 409, 429 or 5xx, or no answer within `timeout` seconds, is sent again up to
    `retries` times, with a growing pause. Raises `UsageError` for an address that is none or that holds a secret.
    """

    model: str
    base_url: str = OPENAI
    max_tokens: int | None = None  # 400, or 4000 where the server counts reasoning tokens too
    timeout: int | float = 60
    retries: int = 4

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.base_url)
            known = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            known = False
        if not known:  # the address is not repeated: a key may stand in it
            raise UsageError(f"--base-url is no http or https address; give one like {OPENAI}.")
        if url.username or url.password or url.query or url.fragment:
            raise UsageError(f"--base-url may not hold a key, a password or a query; set {KEYS[0]} for the key.")
        if not self.model.strip():
            raise UsageError("--model is empty; give the name that the endpoint knows its model by.")
        if self.timeout <= 0 or self.retries < 0 or (self.max_tokens is not None and self.max_tokens < 1):
            raise UsageError("--timeout must be above 0, --retries 0 or more, and the answer have room for a token.")


def find_key() -> str | None:
    """The key from the environment, or else from a `.env` file in the current folder; None if there is none."""
    needs()
    from dotenv import dotenv_values

    try:
        file = dotenv_values(Path(".env")) if Path(".env").is_file() else {}
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError("The file .env here could not be read as UTF-8 text; mend it or move it away.") from e
    keys = [(name, value) for source in (os.environ, file) for name in KEYS if (value := (source.get(name) or ""))]
    if not keys:
        return None
    name, key = keys[0][0], keys[0][1].strip()
    if not (key.isascii() and key.isprintable() and " " not in key and key):
        raise UsageError(f"{name} holds characters that no key has, such as a space; set it again.")
    return key


def needs() -> None:
    """Raise `UsageError` with what to install unless the extra is there."""
    for module in ("openai", "dotenv"):
        if find_spec(module) is None:
            raise UsageError(f"Asking a language model needs {module}: pip install 'mnemoscope[llm]'.")


class Connection:
    """Sends requests to an endpoint; the key lives in this object and in the Authorization header alone."""

    def __init__(self, endpoint: Endpoint, key: str | None) -> None:
        if key is None and endpoint.base_url.rstrip("/") == OPENAI:
            raise UsageError(
                f"No key was found for {OPENAI}; set {' or '.join(KEYS)}, or give the --base-url of another server."
            )
        needs()
        from openai import OpenAI

        self.endpoint = endpoint
        self._key = key
        self._limit = "max_tokens"
        self._client: Any = OpenAI(  # Any: the name of the limit is known at run time only
            api_key=key or "none", base_url=endpoint.base_url, timeout=endpoint.timeout, max_retries=endpoint.retries
        )

    def __repr__(self) -> str:
        return f"Connection({self.endpoint})"

    def clean(self, text: object) -> str:
        """A text of the server's without the key, should it repeat it."""
        message = str(text)
        return message.replace(self._key, "***") if self._key else message

    def ask(self, messages: Messages) -> Any:
        """The endpoint's answer as JSON; None for an answer that is no JSON.

        Raises `NotRewritten` for a request that failed for good, and `UsageError` for what fails for every request.
        """
        import openai

        try:
            raw = self._send(messages)
        except openai.APITimeoutError:
            tries = self.endpoint.retries + 1
            raise NotRewritten(f"no answer within {self.endpoint.timeout:g} s, asked {tries} times") from None
        except openai.APIConnectionError:
            where = self.endpoint.base_url
            raise UsageError(f"Nothing answers at {where}; check --base-url and the network, then go on.") from None
        except openai.APIStatusError as e:
            raise self._failure(e) from None
        try:
            return self.cleaned(parsed(raw.content.decode("utf-8", "replace")))
        except ValueError:
            return None

    def _send(self, messages: Messages) -> Any:
        """One request; a server that refuses the name of its limit, as those of reasoning models do, gets the other."""
        import openai

        try:
            return self._request(messages)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as e:
            if self._limit not in e.message:
                raise
            refused, self._limit = self._limit, next(name for name in LIMITS if name != self._limit)
            try:
                return self._request(messages)
            except openai.APIStatusError:
                self._limit = refused
                raise

    def _request(self, messages: Messages) -> Any:
        return self._client.chat.completions.with_raw_response.create(
            model=self.endpoint.model,
            messages=messages,
            **{self._limit: self.endpoint.max_tokens or LIMITS[self._limit]},
        )

    def _failure(self, error: Any) -> Exception:
        """What a status means: for this request alone, or for all of them."""
        where, status = self.endpoint.base_url, error.status_code
        if status in REFUSED:
            return UsageError(
                f"{where} {REFUSED[status]} (status {status}); check --base-url, --model and {' or '.join(KEYS)}."
            )
        reason = " ".join(self.clean(_said(error)).split())[:200]
        if status in (400, 422) and error.code not in OF_ONE_PROMPT:
            return UsageError(
                f"{where} does not take such requests (status {status}): {reason.rstrip('.')}; check --model."
            )
        return NotRewritten(f"the endpoint failed with status {status}: {reason}")

    def cleaned(self, value: Any) -> Any:
        """A JSON value without the key in any of its texts, however the server spelt it."""
        if isinstance(value, dict):
            return {self.clean(name): self.cleaned(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.cleaned(each) for each in value]
        return self.clean(value) if isinstance(value, str) else value


def _said(error: Any) -> str:
    """The server's own reason, without the wrapping of the status and the rest of the body."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)
