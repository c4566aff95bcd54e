"""A chat-completions server on this machine that follows a script of faults and remembers what it was asked."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer(ThreadingHTTPServer):
    """Answers with the caption in which "[[x]]" has become "other x"; `script` holds what to do instead, in order.

    An entry is a status, the error of a 400 (a dictionary), an address to go to (in a tuple), a text to answer with, or
    "malformed", "silent", "html", "shape", "cut", "key", "refused", "filtered"; None is the usual answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list = []
        self.refuses: dict[str, str] = {}  # a field of the request -> what a 400 says about it
        self.asked: list[dict] = []
        self.release = threading.Event()  # ends every "silent"
        self.begun = threading.Condition()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def captions(self) -> list[str]:
        return [caption(r["body"]) for r in self.asked]

    def wait_for(self, count: int) -> bool:
        """Wait until so many requests have come in."""
        with self.begun:
            return self.begun.wait_for(lambda: len(self.asked) >= count, timeout=60)


def caption(body: dict) -> str:
    return body["messages"][-1]["content"].rpartition("Caption: ")[2]


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.begun:
            server.asked.append(
                {"path": self.path, "headers": {k.title(): v for k, v in self.headers.items()}, "body": body}
            )
            turn = server.script[len(server.asked) - 1] if len(server.asked) <= len(server.script) else None
            server.begun.notify_all()
        if turn == "silent":
            server.release.wait(30)
        if refused := next((said for field, said in server.refuses.items() if field in body), None):
            return self.send(400, json.dumps({"error": {"message": refused, "code": "unsupported_parameter"}}))
        with suppress(BrokenPipeError, ConnectionResetError):  # it has gone away
            self.reply(turn, body)

    def reply(self, turn: object, body: dict) -> None:
        usual = re.sub(r"\[\[(.*?)\]\]", r"other \1", caption(body))
        message, finish = {"role": "assistant", "content": usual}, "stop"
        if isinstance(turn, int):
            said = f"refused: {self.headers['Authorization']}"  # a server that repeats the key
            return self.send(turn, json.dumps({"error": {"message": said}}))
        if isinstance(turn, dict):  # an error of that shape
            return self.send(400, json.dumps({"error": turn}))
        if isinstance(turn, tuple):  # moved to another address
            return self.send(307, "", location=turn[0])
        if turn == "malformed":
            return self.send(200, '{"choices": [{"mess')
        if turn == "html":
            return self.send(200, "<html>busy</html>", "text/html")
        if turn == "shape":
            return self.send(200, '{"choices": []}')
        if turn == "cut":
            finish = "length"
        elif turn == "filtered":
            finish = "content_filter"
        elif turn == "refused":
            message |= {"content": None, "refusal": "no"}
        elif turn == "key":
            message["content"] = f"{usual} {self.headers['Authorization']}"
        elif isinstance(turn, str) and turn != "silent":
            message["content"] = turn
        self.send(200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}))

    def send(self, status: int, text: str, kind: str = "application/json", location: str = "") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("retry-after-ms", "1")
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
