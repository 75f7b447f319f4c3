"""While nobody owns the repository's address, no page links to it."""

import setup_cell
from sphinx.application import Sphinx
from sphinx.config import Config

BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")


def setup(app: Sphinx) -> None:
    """Look at the address as soon as the configuration is read."""
    app.connect("config-inited", hide_unowned_links)


def hide_unowned_links(app: Sphinx, config: Config) -> None:
    """Drop the Colab link and the repository's buttons while the address is unset."""
    options = config.html_theme_options
    if options.get("repository_url") != setup_cell.UNSET:
        return
    options["repository_url"] = ""
    options["launch_buttons"] = {}
    for button in BUTTONS:
        options[button] = False
