"""Take out of the theme what the pages load and never use.

The theme's pages weigh 2.4 MB, of which 1.5 MB is a script that draws icons; the style
sheet draws the same icons from a font of 0.15 MB, which is what happens once the
script is gone. sphinx-thebe, which Jupyter Book always loads, names a server and
declares its constants twice, an error in the console of every page.
"""

from pathlib import Path

import pydata_sphinx_theme
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

MACROS = "static/webpack-macros.html"
ICON_SCRIPT = "fontawesome.js"


def setup(app: Sphinx) -> None:
    """Remove Thebe now, and the icon script once the output folder is known."""
    remove_thebe(app)
    app.connect("config-inited", drop_the_icon_script)


def remove_thebe(app: Sphinx) -> None:
    """Disconnect every listener of sphinx-thebe and forget its style sheet."""
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files[:] = [
        (name, options)
        for name, options in app.registry.css_files
        if name != "sphinx-thebe.css"
    ]


def drop_the_icon_script(app: Sphinx, config: Config) -> None:
    """Put a copy of the theme's list of scripts, less one, before the theme's own."""
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    lines = (theme / MACROS).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if ICON_SCRIPT not in line]
    if len(kept) != len(lines) - 1:
        raise ExtensionError(
            f"{MACROS} of pydata-sphinx-theme names {ICON_SCRIPT} on "
            f"{len(lines) - len(kept)} lines, not one; the theme has changed: look at "
            "the icons of a built page, then adapt lean_theme.py"
        )
    templates = Path(app.outdir).parent / ".templates"
    (templates / MACROS).parent.mkdir(parents=True, exist_ok=True)
    (templates / MACROS).write_text("".join(kept), encoding="utf-8")
    config.templates_path.insert(0, str(templates))
    # Empty on purpose: the side bar has the search field already.
    config.html_theme_options["navbar_persistent"] = []
