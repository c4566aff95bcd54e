"""Rewriting by a language model behind a chat-completions endpoint, each answer kept in a cache."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from mnemoscope.rewriting.endpoint import Connection, Endpoint, Messages
from mnemoscope.rewriting.passage import NotRewritten, Passage, same
from mnemoscope.run.run import read_json, write_json

ANSWERS = 3  # asked of one rewrite before it is given up
INSTRUCTION = """\
Below is the caption of an image. Some of its words stand in [[double brackets]]. Write the caption again so that it \
reads naturally and means nearly the same, changing what stands in brackets as follows. Punctuation that carries no \
meaning: leave it out, or use another mark. A number: write one that is close to it. The name of a person, a place or \
a culture: keep it. Any other word: use a synonym that fits the sentence. Leave the rest as it is unless grammar asks \
for a change. Answer with the new caption and nothing else: no brackets, no quotation marks, no remark.

Caption: """
REFUSAL = re.compile(
    r"^(sorry,|as an ai\b|i (can(no|['’])t|can not|won['’]t|apologi[sz]e)\b|i(['’]| a)m (sorry|unable|not able)\b)",
    re.IGNORECASE,
)
THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
THOUGHT_END = re.compile(r".*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)  # opened by the server itself
THOUGHT_BEGUN = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
PREAMBLE = re.compile(  # "Sure! Here is the rewritten caption:", "**Final answer:**"
    r"^[*\s]*(?:(?:sure|certainly|of course|okay|ok)\b[^\n:]{0,40}?[!,.]\s*)?"
    r"(?:here(?:['’]s| is)\b[^:\n]{0,80}|(?:the |my )?(?:final |new |rewritten |revised )?(?:answer|caption))"
    r"[*\s]*:[*\s]*",
    re.IGNORECASE,
)
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}


class Chat:
    """Asks a language model for each rewrite, and asks nothing twice that `cache`, a folder, has an answer to.

    An answer that is empty, refused, too long, in several lines, unchanged or no JSON is asked for again, up to
    3 times in all, and is never kept in the cache.
    """

    def __init__(self, connection: Connection, cache: Path) -> None:
        self.connection = connection
        self.cache = cache
        self.name = f"chat:{connection.endpoint.model}"

    def __call__(self, passage: Passage, seed: int) -> str:
        messages = request(passage)
        file = self.cache / f"{request_hash(self.connection.endpoint, messages, seed)}.json"
        if file.is_file():
            return str(read_json(file)["answer"])
        reason = ""
        for _ in range(ANSWERS):
            try:
                answer = accepted(self.connection.ask(messages), passage)
            except Unusable as e:
                reason = self.connection.clean(e)
                continue
            self.cache.mkdir(parents=True, exist_ok=True)
            write_json(file, {"answer": answer, "draw": seed, "messages": messages})
            return answer
        raise NotRewritten(f"{reason}, {ANSWERS} times")


class Unusable(Exception):
    """What is wrong with an answer that another one may do better."""


def request(passage: Passage) -> Messages:
    """The one message that asks for a rewrite."""
    return [{"role": "user", "content": INSTRUCTION + passage.marked()}]


def request_hash(endpoint: Endpoint, messages: Messages, seed: int) -> str:
    """What an answer is kept under: where it came from, all that was sent, and the number of the draw."""
    sent = [endpoint.base_url, endpoint.model, endpoint.max_tokens or 400, messages, seed]
    return hashlib.sha256(json.dumps(sent).encode()).hexdigest()[:32]


def accepted(reply: Any, passage: Passage) -> str:
    """The caption in an endpoint's answer; raises `Unusable` for any other answer."""
    try:
        choice = reply["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
    except (LookupError, TypeError, AttributeError):
        raise Unusable("the answer is no chat completion") from None
    text = _bare(_answer(_text(content), passage.prompt))
    if refusal or finish == "content_filter" or REFUSAL.match(text):
        raise Unusable("the language model refused")
    if not text:
        raise Unusable("the answer is empty")
    if finish == "length" or len(text) > 2 * len(passage.prompt) + 100:
        raise Unusable("the answer is too long")
    if len(text.splitlines()) > 1:
        raise Unusable("the answer has several lines")
    if same(text, passage.prompt):
        raise Unusable("no rewrite found: the answer is the prompt itself")
    return text


def _text(content: Any) -> str:
    """The text of a message's content, which some servers send in parts, reasoning apart."""
    if isinstance(content, list):
        content = "".join(
            str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text"
        )
    return content if isinstance(content, str) else ""


def _answer(text: str, prompt: str) -> str:
    """What follows a reasoning model's thoughts and a preamble; a preamble that the prompt itself has is kept."""
    text = THOUGHT_END.sub("", THOUGHT.sub("", text))
    if THOUGHT_BEGUN.search(text):
        raise Unusable("the answer is too long: its reasoning does not end")
    if PREAMBLE.match(prompt):
        return text
    lines = text.strip().splitlines()
    for number in reversed(range(len(lines))):
        if preamble := PREAMBLE.match(lines[number]):
            return "\n".join([lines[number][preamble.end() :], *lines[number + 1 :]])
    return text


def _bare(content: str) -> str:
    """The answer without the brackets of the question and the quotation marks around it."""
    text = content.replace("[[", "").replace("]]", "").strip()
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text
