"""Control a headless Chromium through a pipe, without a driver or a network port.

``benchmarks/view.py`` and tests use it to examine pages as a user sees them.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium():
    """Return the program, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in its own browser, which closes at the end of the ``with`` block.

    Parameters
    ----------
    fname : path-like
        The file to show.
    width, height : int
        Size of the window in pixels.
    """

    def __init__(self, fname, width=1300, height=950):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser reads its descriptor 3 and writes to 4.
        quoted = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", quoted, find_chromium(), "--headless", "--no-sandbox"),
                *("--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"),
                f"--user-data-dir={self._profile.name}",
                f"--window-size={width},{height}",
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._id, self._rest, self._session, self.requests = 0, b"", None, []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._ask("Network.enable")
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self._ask("Page.navigate", url=Path(fname).resolve().as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def evaluate(self, expression):
        """Return the value of an expression in the page, and wait for promises."""
        reply = self._ask(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in reply:
            raise RuntimeError(str(reply["exceptionDetails"]))
        return reply["result"].get("value")

    def wait_for(self, condition, seconds=20):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.evaluate(f"document.body && ({condition})")
            if found:
                return found
            time.sleep(0.02)
        raise TimeoutError(f"{condition} did not come true in {seconds} s.")

    def drawn(self):
        """Wait until the browser has drawn the page."""
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => "
            "requestAnimationFrame(done)))"
        )

    def mouse(self, kind, x, y, **more):
        """Send a mouse event with ``Input.dispatchMouseEvent``."""
        self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        """Press and release the button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", buttons=1, clickCount=1)

    def drag(self, x, y, to_x, to_y):
        """Move from one place to another with the button pressed."""
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        for share in (0.5, 1):
            at = x + share * (to_x - x), y + share * (to_y - y)
            self.mouse("mouseMoved", *at, button="left", buttons=1)
        self.mouse("mouseReleased", to_x, to_y, button="left", buttons=0, clickCount=1)

    def press(self, key, shift=False):
        """Press and release a key, such as ``'ArrowLeft'``."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift)

    def screenshot(self, fname):
        """Write the content of the window to a PNG file."""
        content = self._ask("Page.captureScreenshot", format="png")["data"]
        Path(fname).write_bytes(base64.b64decode(content))

    def _ask(self, method, **params):
        self._id += 1
        message = dict(id=self._id, method=method, params=params)
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("The browser has ended.")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
