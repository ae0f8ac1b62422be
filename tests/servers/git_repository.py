"""Repositories for tests, made and pushed to with the git program: on this disk, and behind HTTPS."""

import os
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import trustme
from typing_extensions import override

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.test",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.test",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git and give what it prints."""
    argv = ["git", "-C", str(folder), *arguments]
    result = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout.strip()


class Desk:
    """A bare repository and the clone of a person who pushes to it."""

    def __init__(self, folder: Path) -> None:
        """Make both; the bare one is empty."""
        self.bare = folder / "users.git"
        self.work = folder / "work"
        self.bare.mkdir()
        self.work.mkdir()
        git(self.bare, "init", "--quiet", "--bare", "--initial-branch=main")
        git(self.work, "init", "--quiet", "--initial-branch=main")
        git(self.work, "remote", "add", "origin", str(self.bare))

    def push(self, files: Mapping[str, str | bytes | None], *options: str) -> str:
        """Commit files (None removes one), push, and give the name of the commit."""
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.push_all(*options)

    def push_all(self, *options: str) -> str:
        """Commit what is in the work tree, push, and give the name of the commit."""
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "-m", "change")
        git(self.work, "push", "--quiet", *options, "origin", "HEAD:main")
        return git(self.work, "rev-parse", "HEAD")


class GitServer:
    """Serves a folder of repositories over HTTPS, as `git http-backend` does behind a web server."""

    def __init__(self, root: Path, authority: trustme.CA, password: str) -> None:
        """Listen on a free port; who is called ``git`` and has the password may read and push."""
        self.requests = 0
        self._expected = f"Basic {b64encode(b'git:' + password.encode()).decode()}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler(root))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        """Give the URL of the folder."""
        return f"https://git@127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _make_handler(self, root: Path) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"
            timeout: ClassVar[float | None] = 10

            def do_GET(self) -> None:
                """Serve the list of references."""
                self._serve(b"")

            def do_POST(self) -> None:
                """Serve a fetch or a push."""
                self._serve(self._read_body())

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def _read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                chunks = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def _serve(self, body: bytes) -> None:
                server.requests += 1
                if self.headers.get("Authorization") != server._expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                environment = ENVIRONMENT | {
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "REMOTE_USER": "git",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "http.receivepack",
                    "GIT_CONFIG_VALUE_0": "true",
                }
                argv = ["git", "http-backend"]
                result = subprocess.run(argv, input=body, env=environment, capture_output=True, timeout=60, check=False)
                head, _, content = result.stdout.partition(b"\r\n\r\n")
                headers = [line.partition(": ") for line in head.decode().split("\r\n") if line]
                status = next((value for name, _, value in headers if name == "Status"), "200 OK")
                self.send_response(int(status.split()[0]))
                for name, _, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler


@contextmanager
def running_git_server(root: Path, authority: trustme.CA, password: str) -> Iterator[GitServer]:
    """Run a server for a folder."""
    server = GitServer(root, authority, password)
    try:
        yield server
    finally:
        server.stop()
