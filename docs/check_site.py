"""Check the built pages: ``python docs/check_site.py [docs/_build/html]``.

Every internal link must lead to a page and an anchor that exist, every picture must exist. Where
playwright and a Chromium are installed (``--browser /usr/bin/chromium``), no page may be wider than a
desktop or a phone.
"""

import argparse
import functools
import http.server
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

WIDTHS = {"desktop": 1280, "phone": 390}


class Page(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.anchors = [], [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        """Take note of a tag."""
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img" and attrs.get("src"):
            self.pictures.append(attrs["src"])


def dead_links(root):
    """Yield a line for each link or picture that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in root.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links + page.pictures:
            address, anchor = urldefrag(link)
            if urlparse(link).scheme or address.startswith("//"):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path.relative_to(root.resolve())}: {link} leads nowhere"
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                yield f"{path.relative_to(root.resolve())}: no anchor {link}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *args):
        """Say nothing."""


def too_wide(root, browser, shots):
    """Yield a line for each page that is wider than its window; keep pictures in `shots`."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Quiet, directory=root)
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            page = chromium.new_page(viewport={"width": width, "height": 900})
            for path in sorted(root.rglob("*.html")):
                place = path.relative_to(root).as_posix()
                if place.startswith("_"):
                    continue
                page.goto(f"http://localhost:{server.server_port}/{place}", wait_until="load")
                needed = page.evaluate("document.documentElement.scrollWidth")
                if needed > width:
                    yield f"{place}: {needed} pixels wide on a {name} of {width}"
                broken = page.evaluate(
                    "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
                )
                yield from (f"{place}: {source} is not shown" for source in broken)
                if shots:
                    shot = Path(shots) / f"{name}-{place.replace('/', '-')}.png"
                    page.screenshot(path=shot)
        chromium.close()
    server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", default="docs/_build/html", type=Path)
    parser.add_argument("--browser", help="path of a Chromium; needs playwright")
    parser.add_argument("--shots", help="folder for pictures of all pages")
    arguments = parser.parse_args()
    faults = list(dead_links(arguments.root))
    if arguments.browser:
        faults += too_wide(arguments.root.resolve(), arguments.browser, arguments.shots)
    print("\n".join(faults) or "every link, picture and width is right")
    sys.exit(bool(faults))
