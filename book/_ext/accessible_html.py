"""Repair the few places where the HTML of Sphinx misleads a screen reader.

Found with axe-core on the built pages; the tests of the book keep looking.
"""

import re
from typing import Any

from sphinx.application import Sphinx

SIGNATURE = re.compile(r'<dt class="sig [^>]*>.*?</dt>', re.DOTALL)
ANYWHERE = {
    # Sphinx announces a list whose children are bibliography entries; ARIA wants items.
    'role="doc-biblioentry"': 'role="listitem"',
    # myst-nb names the button one thing and shows another: "Show code cell source".
    '<summary aria-label="Toggle hidden content">': "<summary>",
}
# Sphinx lays out a long signature as a definition list that defines nothing.
LAYOUT = {
    "<dl>": '<span class="sig-rows">',
    "</dl>": "</span>",
    "<dd>": '<span class="sig-row">',
    "</dd>": "</span>",
}


def setup(app: Sphinx) -> None:
    """Repair each page just before it is written."""
    app.connect("html-page-context", repair)


def repair(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Rewrite the body of one page."""
    body = context.get("body", "")
    body = SIGNATURE.sub(lambda found: _replace_all(found[0], LAYOUT), body)
    context["body"] = _replace_all(body, ANYWHERE)


def _replace_all(text: str, pairs: dict[str, str]) -> str:
    for old, new in pairs.items():
        text = text.replace(old, new)
    return text
