"""A language model that rewrites, behind a real server on this machine: faults, retries, the cache, the key."""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_server import ChatServer, chat_server
from mnemoscope.errors import UsageError
from mnemoscope.rewriting.chat import ANSWERS, Chat, Unusable, accepted
from mnemoscope.rewriting.endpoint import OPENAI, Connection, Endpoint, find_key
from mnemoscope.rewriting.passage import NotRewritten, Passage, passage

KEY = "sk-planted-0123456789"
PLACE = passage("The Lion of Marrakand, oil", ["the", "lion", "of", "marrakand", ",", "oil"], [1, 5])


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MNEMOSCOPE_API_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def chat(server: ChatServer, folder: Path, key: str | None = KEY, **how: object) -> Chat:
    endpoint = Endpoint("small", server.base_url, **{"retries": 2, "timeout": 20, **how})
    return Chat(Connection(endpoint, key), folder / "cache")


def reply(content: object, **choice: object) -> dict:
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop", **choice}]}


# What is asked and how it is answered


def test_one_request_asks_for_one_rewrite(server: ChatServer, tmp_path: Path) -> None:
    assert chat(server, tmp_path)(PLACE, 1) == "The other Lion of Marrakand, other oil"
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["body"].keys() == {"model", "messages", "max_tokens"} and asked["body"]["model"] == "small"
    (message,) = asked["body"]["messages"]
    assert message["role"] == "user" and message["content"].endswith("Caption: The [[Lion]] of Marrakand, [[oil]]")
    for rule in ("Punctuation", "number", "name of a person, a place or a culture: keep", "synonym", "nothing else"):
        assert rule in message["content"]


def test_what_was_answered_is_not_asked_again(server: ChatServer, tmp_path: Path) -> None:
    first = [chat(server, tmp_path)(PLACE, k) for k in (1, 2)]
    assert len(server.asked) == 2  # two draws of one prompt are two questions
    assert [chat(server, tmp_path)(PLACE, k) for k in (1, 2)] == first
    assert len(server.asked) == 2
    chat(server, tmp_path, max_tokens=99)(PLACE, 1)
    Chat(Connection(Endpoint("large", server.base_url), KEY), tmp_path / "cache")(PLACE, 1)
    chat(server, tmp_path)(Passage(PLACE.prompt, PLACE.spans[:1]), 1)
    assert len(server.asked) == 5


@pytest.mark.parametrize("fault", [500, 503, 429, 408])
def test_a_request_that_did_not_get_through_is_sent_again(server: ChatServer, tmp_path: Path, fault: int) -> None:
    server.script = [fault]
    assert chat(server, tmp_path)(PLACE, 1).startswith("The other")
    assert len(server.asked) == 2


def test_retries_are_bounded(server: ChatServer, tmp_path: Path) -> None:
    server.script = [500] * 9
    with pytest.raises(NotRewritten, match="status 500"):
        chat(server, tmp_path)(PLACE, 1)
    assert len(server.asked) == 3


def test_an_answer_that_does_not_come_in_time_is_given_up(server: ChatServer, tmp_path: Path) -> None:
    server.script = ["silent"] * 2
    with pytest.raises(NotRewritten, match=r"no answer within 0\.3 s, asked 2 times"):
        chat(server, tmp_path, timeout=0.3, retries=1)(PLACE, 1)
    assert len(server.asked) == 2


FAULTS = {
    "malformed": "no chat completion",
    "html": "no chat completion",
    "shape": "no chat completion",
    "": "empty",
    '""': "empty",
    "refused": "refused",
    "filtered": "refused",
    "I'm sorry, but I can't help with that.": "refused",
    "cut": "too long",
    "word " * 100: "too long",
    "one\ntwo": "several lines",
    "the lion of marrakand, OIL": "no rewrite found",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
def test_an_unusable_answer_is_asked_for_again(server: ChatServer, tmp_path: Path, fault: str, reason: str) -> None:
    server.script = [fault]
    assert chat(server, tmp_path)(PLACE, 1).startswith("The other")
    assert len(server.asked) == 2
    server.script = [None, None, *[fault] * 9]
    with pytest.raises(NotRewritten, match=f"{reason}.*, {ANSWERS} times"):
        chat(server, tmp_path)(PLACE, 2)
    assert len(server.asked) == 2 + ANSWERS
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the good answer alone


def test_brackets_and_quotation_marks_are_taken_off() -> None:
    for given in ('"A big cat"', "“A big cat”", " [[A big cat]] ", "A [[big]] cat", "`A big cat`\n"):
        assert accepted(reply(given), PLACE) == "A big cat"
    assert accepted(reply("'t is a cat"), PLACE) == "'t is a cat"
    assert accepted(reply("Sorry cat of Marrakand"), PLACE) == "Sorry cat of Marrakand"
    for wrong in (None, 3, [], {"choices": "x"}, {"choices": [{"message": "x"}]}, reply(7), reply(["x"])):
        with pytest.raises(Unusable):
            accepted(wrong, PLACE)


# Servers of reasoning models


NO_MAX_TOKENS = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."


def test_a_server_that_refuses_the_name_of_the_limit_gets_the_other(server: ChatServer, tmp_path: Path) -> None:
    server.refuses = {"max_tokens": NO_MAX_TOKENS}
    rewriter = chat(server, tmp_path)
    assert [rewriter(PLACE, k) for k in (1, 2)] == ["The other Lion of Marrakand, other oil"] * 2
    limits = [{k: v for k, v in asked["body"].items() if k.startswith("max")} for asked in server.asked]
    assert limits == [{"max_tokens": 400}, {"max_completion_tokens": 4000}, {"max_completion_tokens": 4000}]
    assert chat(server, tmp_path / "b", max_tokens=70)(PLACE, 1).startswith("The other")
    assert server.asked[-1]["body"]["max_completion_tokens"] == 70


def test_a_server_that_refuses_both_names_is_asked_twice(server: ChatServer, tmp_path: Path) -> None:
    server.refuses = {"max_tokens": NO_MAX_TOKENS, "max_completion_tokens": "max_completion_tokens is not known"}
    with pytest.raises(UsageError, match=r"status 400.: max_completion_tokens is not known; check --model"):
        chat(server, tmp_path)(PLACE, 1)
    assert len(server.asked) == 2


def test_a_bad_request_ends_the_run_with_the_servers_reason(server: ChatServer, tmp_path: Path) -> None:
    server.script = [{"message": "This model\nhas no\u001b[31m chat.", "code": None}]
    with pytest.raises(UsageError, match=r"status 400.: This model has no.* chat; check --model"):
        chat(server, tmp_path)(PLACE, 1)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", ["content_filter", "context_length_exceeded"])
def test_a_bad_request_about_one_prompt_fails_that_row_alone(server: ChatServer, tmp_path: Path, code: str) -> None:
    server.script = [{"message": "not this prompt", "code": code}]
    rewriter = chat(server, tmp_path)
    with pytest.raises(NotRewritten, match="status 400: not this prompt"):
        rewriter(PLACE, 1)
    assert rewriter(PLACE, 1).startswith("The other") and len(server.asked) == 2


WRAPPED = [
    "<think>The user wants a rewrite.\n\nI can't use lion.</think>\n\nA big cat",
    "So: a cat, not a lion.\nFine.\n</think>\nA big cat",  # the template of the server opened it
    "<Thinking>hm</Thinking> A big cat",
    "Here is the rewritten caption:\n\nA big cat",
    "Sure! Here's the new caption: “A big cat”",
    "New caption: A big cat",
    "**Caption:** A big cat",
    "Okay, first the lion goes.\nThen the oil.\n\n**Final answer:**\nA big cat",
    [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "A big cat"}],
]


@pytest.mark.parametrize("content", WRAPPED)
def test_reasoning_and_preambles_are_taken_off(content: object) -> None:
    assert accepted(reply(content), PLACE) == "A big cat"


def test_reasoning_without_an_answer_is_none() -> None:
    for content, reason in (("<think>hm, a lion", "reasoning does not end"), ("<think>hm</think>\n", "empty")):
        with pytest.raises(Unusable, match=reason):
            accepted(reply(content), PLACE)
    with pytest.raises(Unusable, match="refused"):
        accepted(reply("<think>hm</think>I can't help with that."), PLACE)
    with pytest.raises(Unusable, match="several lines"):
        accepted(reply("Here is the caption:\nA big cat\nA small cat"), PLACE)


def test_a_prompt_with_a_colon_keeps_its_beginning() -> None:
    assert accepted(reply("Here is Rome: an oil painting"), passage("Here is Paris: oil", ["oil"], [0])) == (
        "Here is Rome: an oil painting"
    )
    assert accepted(reply("Portrait: a big cat"), PLACE) == "Portrait: a big cat"


# What the user has to mend


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_name_ends_the_run_at_once(server: ChatServer, tmp_path: Path, status: int) -> None:
    server.script = [status] * 9
    with pytest.raises(UsageError, match=f"{server.base_url} .*status {status}.*--model") as error:
        chat(server, tmp_path)(PLACE, 1)
    assert len(server.asked) == 1 and KEY not in str(error.value)


def test_nothing_at_the_address_is_said_in_one_sentence(tmp_path: Path) -> None:
    with chat_server() as server:
        gone = server.base_url
    with pytest.raises(UsageError, match="Nothing answers at http://127"):
        Chat(Connection(Endpoint("small", gone, retries=0), KEY), tmp_path)(PLACE, 1)


@pytest.mark.parametrize(
    "url", ["api.example.org", "ftp://example.org", "http://", "https://me:pw@example.org/v1", "http://h/v1?key=abc"]
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--base-url") as error:
        Endpoint("small", url)
    assert "pw" not in str(error.value) and "abc" not in str(error.value)


@pytest.mark.parametrize("how", [{"timeout": 0}, {"retries": -1}, {"max_tokens": 0}, {"model": " "}])
def test_impossible_requests_are_refused(how: dict) -> None:
    with pytest.raises(UsageError):
        Endpoint(**{"model": "small", "base_url": "http://localhost/v1", **how})


def test_without_the_extra_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    for module in ("openai", "dotenv"):
        monkeypatch.setattr(
            "mnemoscope.rewriting.endpoint.find_spec", lambda name, gone=module: None if name == gone else found(name)
        )
        with pytest.raises(UsageError, match=rf"needs {module}: pip install 'mnemoscope\[llm\]'"):
            find_key()


# The key


def test_the_key_comes_from_the_environment_or_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_key() is None
    (tmp_path / ".env").write_text("# mine\nexport OPENAI_API_KEY='from-file' # here\nOTHER=1\n")
    assert find_key() == "from-file"
    (tmp_path / ".env").write_text("OPENAI_API_KEY=second\nMNEMOSCOPE_API_KEY=first\n")
    assert find_key() == "first"
    monkeypatch.setenv("OPENAI_API_KEY", " environment\n")
    assert find_key() == "environment"
    monkeypatch.setenv("MNEMOSCOPE_API_KEY", "own")
    assert find_key() == "own"


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "naïve", "   "])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MNEMOSCOPE_API_KEY", value)
    with pytest.raises(UsageError, match="MNEMOSCOPE_API_KEY holds characters") as error:
        find_key()
    assert not value.strip() or value not in str(error.value)


def test_openai_needs_a_key_and_another_server_does_not(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No key was found for https://api.openai.com/v1; set MNEMOSCOPE_API_KEY"):
        Connection(Endpoint("small", OPENAI + "/"), None)
    assert chat(server, tmp_path, key=None)(PLACE, 1).startswith("The other")


def test_the_key_does_not_follow_a_redirection_to_another_host(server: ChatServer, tmp_path: Path) -> None:
    with chat_server() as other:
        server.script = [(f"{other.base_url}/chat/completions",)]
        assert chat(server, tmp_path)(PLACE, 1).startswith("The other")
        (asked,) = other.asked
    assert KEY in str(server.asked) and KEY not in str(asked)


def test_the_key_is_in_the_header_and_nowhere_else(
    server: ChatServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.script = [500, "key", "malformed", None, 400]  # the last is fatal
    rewriter = chat(server, tmp_path)
    with caplog.at_level(logging.DEBUG):
        said = [rewriter(PLACE, 1), rewriter(PLACE, 2)]
        with pytest.raises(UsageError, match="status 400") as error:
            rewriter(PLACE, 3)
    assert all(asked["headers"]["Authorization"] == f"Bearer {KEY}" for asked in server.asked)
    assert not any(
        KEY in str({**asked, "headers": {**asked["headers"], "Authorization": ""}}) for asked in server.asked
    )
    assert "***" in said[0] and "***" in str(error.value)  # the server repeated the key
    printed = capfd.readouterr()
    for text in (*said, str(error.value), repr(rewriter.connection), caplog.text, printed.out, printed.err):
        assert KEY not in text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2 and not any(KEY.encode() in path.read_bytes() for path in written)
