"""Code without the marks that colour nothing.

The highlighter wraps every token, and two thirds of the tokens are names, punctuation
and spaces, which the style prints in the colour of plain text. Their marks are a fifth
of the page of a long chapter.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BLOCK = re.compile(r'<div class="highlight"><pre>.*?</pre>', re.DOTALL)
PLAIN = ("n", "p", "w")  # names, punctuation, spaces
MARK = re.compile(rf'<span class="(?:{"|".join(PLAIN)})">([^<]*)</span>')
RULE = re.compile(
    r'^html\[data-theme="(\w+)"\] \.highlight ?(\.\w+)? \{ (.*?) \}', re.MULTILINE
)


def setup(app: Sphinx) -> None:
    """Strip each page just before it is written; at the end look at the colours."""
    app.connect("html-page-context", strip)
    # Late: the theme writes its colours at the end of a build, too.
    app.connect("build-finished", check_colours, priority=900)


def strip(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take the plain marks out of the code blocks of one page."""
    context["body"] = BLOCK.sub(
        lambda block: MARK.sub(r"\1", block[0]), context.get("body", "")
    )


def check_colours(app: Sphinx, exception: Exception | None) -> None:
    """Raise if the style now gives a stripped mark a look of its own."""
    if exception is not None or app.builder.format != "html":
        return
    sheet = Path(app.outdir, "_static", "pygments.css").read_text(encoding="utf-8")
    for theme in ("light", "dark"):
        looks = {
            name: look for found, name, look in RULE.findall(sheet) if found == theme
        }
        for name in PLAIN:
            if not looks[""].endswith(looks[f".{name}"]):
                raise ExtensionError(
                    f"the {theme} style prints `.{name}` as {looks[f'.{name}']!r}, "
                    f"unlike plain text ({looks['']!r}): remove it from PLAIN in "
                    "lean_code.py"
                )
