"""Pages as a parser and as a browser see them."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

VOID = {"meta", "link", "img", "input", "br"}
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Tree(HTMLParser):
    """Every element with its attributes, and an error where tags do not balance."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def in_browser(folder, text, script="", width=1280):
    """The page's document after its own script, and then `script`, ran in a frame of the given width.

    `script` sees the page's document as `page`; what it returns stands in the title that is handed back.
    """
    frame = f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    body = f"""<!doctype html><meta charset="utf-8">{frame}<pre id="out"></pre><script>onload = () => {{
    const page = document.querySelector("iframe").contentDocument;
    document.getElementById("out").textContent = JSON.stringify((() => {{ {script} }})());}}</script>"""
    (folder / "frame.html").write_text(body, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    return json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)[1]))
