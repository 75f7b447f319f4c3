"""Pages whose widgets live in the browser, with no kernel and no other host.

`host.js` ships with the package, so that the widgets and what shows them are tested
together; here it joins the site's static files. It serves anywidget models only, and
skips others in silence: a page that displays one would look finished and be dead, so
the build fails instead.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

HOST = Path(__file__).resolve().parents[2] / "pkg" / "widgets" / "host.js"
VIEW = re.compile(
    r'<script type="application/vnd\.jupyter\.widget-view\+json">(.*?)</script>',
    re.DOTALL,
)


def setup(app: Sphinx) -> None:
    """Copy the host before pages are written; check each page as it is written."""
    app.connect("env-updated", copy_host)
    app.connect("html-page-context", check_page)


def copy_host(app: Sphinx, env: BuildEnvironment) -> None:
    """Put host.js among the static files, where _config.yml says pages find it."""
    if not HOST.exists():
        return  # check_page complains where a widget needs it
    target = Path(app.outdir) / "_static" / "widgets" / HOST.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HOST, target)


def check_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Raise unless every widget that the page displays is an anywidget."""
    views = [json.loads(text) for text in VIEW.findall(context.get("body", ""))]
    if not views:
        return
    if not HOST.exists():
        raise ExtensionError(f"{HOST} is missing: no widget of {pagename} would show")
    files = NbMetadataCollector.get_js_files(app.env, pagename)
    state = json.loads(files["ipywidgets_state"][1]["body"])["state"]
    for view in views:
        model = state.get(view["model_id"], {})
        if model.get("model_module") != "anywidget":
            name = model.get("model_name", "widget without state")
            raise ExtensionError(
                f"{pagename} displays a {name}, which is dead without a kernel; "
                "display an anywidget, or show it only where a kernel runs"
            )
