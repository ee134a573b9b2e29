"""A real browser without a window, driven over two pipes by its own protocol: Debian's Chromium, or whichever is there.

Source: https://chromedevtools.github.io/devtools-protocol/, with ``--remote-debugging-pipe``.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60.0  # seconds; a hang limit, never a measure

# It asks nobody outside for anything, and runs as root too.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--window-size=1280,1000",
)


START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""It speaks over these two descriptors."""


def path():
    """Where a browser is; None when there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser with one page; gone at the end of its block."""

    def __enter__(self):
        self.numbers = itertools.count(1)
        self.buffer = b""
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.read, to_write = os.pipe()
        high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in (to_read, to_write)]
        command = [sys.executable, "-c", START, *map(str, high), path(), *FLAGS, f"--user-data-dir={self.folder.name}"]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*command, "about:blank"], pass_fds=high, start_new_session=True, **streams)
        for number in (to_read, to_write, *high):
            os.close(number)
        try:
            page = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        os.close(self.to)
        os.killpg(self.process.pid, 9)
        self.process.wait()
        os.close(self.read)
        self.folder.cleanup()

    def call(self, method, session=None, **parameters):
        """One command of the protocol; its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                assert select.select([self.read], [], [], PATIENCE)[0], f"the browser does not answer {method}"
                part = os.read(self.read, 1 << 20)
                assert part, f"the browser ended at {method}"
                self.buffer += part
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def goes_to(self, address):
        """Opens an address."""
        answer = self.call("Page.navigate", self.session, url=address)
        assert "errorText" not in answer, answer

    def evaluates(self, expression):
        """What an expression in the page is."""
        result = self.call(
            "Runtime.evaluate", self.session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def waits_for(self, expression):
        """Waits until an expression in the page is true; what it is then."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.evaluates(expression)):
            assert time.monotonic() < deadline, f"{expression} never comes true"
            time.sleep(0.02)  # another process cannot be waited for in another way
        return value

    def takes_picture(self, file, height=None):
        """Writes what it shows to a PNG file."""
        if height is not None:
            screen = {"width": 1280, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.call("Emulation.setDeviceMetricsOverride", self.session, **screen)
        data = self.call("Page.captureScreenshot", self.session, format="png")["data"]
        Path(file).write_bytes(base64.b64decode(data))
