"""Take out of the theme what the pages load and never use.

The theme's pages weigh 2.4 MB, of which 1.5 MB is a script that draws icons; the style
sheet draws the same icons from a font of 0.15 MB, which is what happens once the
script is gone. The search index grows with the book, and the theme loads it on every
page to show hits while one types, which this book leaves off: only the page of hits
reads it. sphinx-thebe, which Jupyter Book always loads, names a server and declares
its constants twice, an error in the console of every page.
"""

from pathlib import Path

import pydata_sphinx_theme
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

THEME = (
    Path(pydata_sphinx_theme.__file__).parent / "theme" / pydata_sphinx_theme.__name__
)
# A template of the theme, the name under which its pages ask for it, and the scripts
# to take out, each named on one line.
UNUSED = (
    (
        "static/webpack-macros.html",
        "static/webpack-macros.html",
        ["fontawesome.js"],
    ),
    (
        "layout.html",
        "pydata_sphinx_theme/layout.html",
        ["_static/searchtools.js", "_static/language_data.js", "searchindex.js"],
    ),
)


def setup(app: Sphinx) -> None:
    """Remove Thebe now, and unused scripts once the output folder is known."""
    remove_thebe(app)
    app.connect("config-inited", drop_unused_scripts)


def remove_thebe(app: Sphinx) -> None:
    """Disconnect every listener of sphinx-thebe and forget its style sheet."""
    found = [
        listener.id
        for listeners in app.events.listeners.values()
        for listener in listeners
        if listener.handler.__module__ == "sphinx_thebe"
    ]
    sheets = [file for file in app.registry.css_files if "thebe" in file[0]]
    if not found or not sheets:
        raise ExtensionError(
            f"sphinx-thebe was expected with listeners and a style sheet; found "
            f"{len(found)} and {len(sheets)}. It has changed, or is loaded later: look "
            "for thebe in a built page, then adapt lean_theme.py"
        )
    for listener in found:
        app.disconnect(listener)
    for sheet in sheets:
        app.registry.css_files.remove(sheet)


def drop_unused_scripts(app: Sphinx, config: Config) -> None:
    """Put copies of the theme's templates, less some lines, before the theme's own."""
    templates = Path(app.outdir).parent / ".templates"
    for source, name, scripts in UNUSED:
        text = (THEME / source).read_text(encoding="utf-8")
        for script in scripts:
            text = _without_line_of(script, text, source)
        copy = templates / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    config.templates_path.insert(0, str(templates))
    # Empty on purpose: the side bar has the search field already.
    config.html_theme_options["navbar_persistent"] = []


def _without_line_of(script: str, text: str, source: str) -> str:
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if script not in line]
    if len(kept) != len(lines) - 1:
        raise ExtensionError(
            f"{source} of pydata-sphinx-theme names {script} on "
            f"{len(lines) - len(kept)} lines, not one; the theme has changed: look at "
            "the icons and the search of a built page, then adapt lean_theme.py"
        )
    return "".join(kept)
