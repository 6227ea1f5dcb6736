"""What all HTML pages share: one self-contained file, every text escaped, nothing loaded from elsewhere."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

BASE_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")  # colours, text, notices, lists


def template_environment(folder: Path) -> Environment:
    """The templates of a folder. All that they fill in is escaped; a name that nobody gives is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def security_policy(style: str, script: str) -> str:
    """The browser loads nothing, and runs no other style or script than the two of the page."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def data_url(png: bytes) -> str:
    """A PNG as the source of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
