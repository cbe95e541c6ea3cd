"""Check the built site: dead internal links, missing pictures; in a browser, what is too wide.

Run ``python docs/check_site.py docs/_build/html [--browser] [--chromium PATH]``.
"""

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = {1280: 900, 390: 844}  # pixels of a desktop and of a phone
SKIPPED = {"_static"}  # templates of the theme

# Pictures that are not shown; pages wider than the screen, and what is cut off at its right edge:
# whatever is wider must stand in something that scrolls.
PROBLEMS = """() => {
  const root = document.documentElement, found = [];
  for (const image of document.images)
    if (image.naturalWidth === 0) found.push("not shown: " + image.src);
  if (root.scrollWidth > root.clientWidth)
    found.push(`${root.scrollWidth} pixels wide on a screen of ${root.clientWidth}`);
  const scrolls = (element) => {
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)
          && e.getBoundingClientRect().right <= root.clientWidth + 1) return true;
    return false;
  };
  for (const element of document.querySelectorAll("main article *")) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > root.clientWidth + 1 && !scrolls(element)) {
      const start = element.textContent.trim().slice(0, 40);
      found.push(`cut off at ${Math.round(box.right)}: <${element.tagName}> ${start}`);
      break;
    }
  }
  return found;
}"""


class Page(HTMLParser):
    """The links, the pictures and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.without_text = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Keep what the tag refers to."""
        attrs = dict(attrs)
        self.anchors.update(attrs[name] for name in ("id", "name") if attrs.get(name))
        for name in ("href", "src"):
            if attrs.get(name):
                self.links.append(attrs[name])
        if tag == "img" and attrs.get("alt") is None:
            self.without_text.append(attrs.get("src"))


def dead_links(root):
    """Yield ``(page, what is wrong)`` for internal links, and for pictures without a text."""
    paths = [p for p in root.rglob("*.html") if p.relative_to(root).parts[0] not in SKIPPED]
    pages = {path.resolve(): Page(path) for path in sorted(paths)}
    for path, page in pages.items():
        for source in page.without_text:
            yield path, f"no alternative text: {source}"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists():
                yield path, f"dead link: {link}"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield path, f"no such anchor: {link}"


def browser_problems(root, chromium):
    """Yield ``(page, what is wrong)`` of each page at each width, and errors of its scripts."""
    from playwright.sync_api import sync_playwright

    paths = [p for p in root.rglob("*.html") if p.relative_to(root).parts[0] not in SKIPPED]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, height in WIDTHS.items():
            tab = browser.new_page(viewport={"width": width, "height": height})
            errors = []
            tab.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            for path in sorted(paths):
                tab.goto(path.resolve().as_uri(), wait_until="load")
                tab.evaluate("() => { for (const i of document.images) i.loading = 'eager'; }")
                tab.wait_for_function("() => [...document.images].every(i => i.complete)")
                for problem in [*tab.evaluate(PROBLEMS), *errors]:
                    yield path, f"{width}: {problem}"
                errors.clear()
        browser.close()


def main():
    """Print all problems; the exit code tells whether there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--chromium", help="path of the browser; None means playwright's own")
    args = parser.parse_args()
    root = args.root.resolve()
    problems = list(dead_links(root))
    if args.browser:
        problems += browser_problems(root, args.chromium)
    for path, problem in problems:
        print(f"{path.relative_to(root)}: {problem}")
    print(f"{len(list(root.rglob('*.html')))} pages, {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
