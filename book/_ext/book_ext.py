"""What this book asks of Sphinx beyond its configuration, in one place to read.

Each line of `setup` hands one concern to one small module:

``fresh_execution``  a chapter is executed anew whenever the package changes
``lean_theme``       the pages carry nothing that they do not use
``lean_code``        highlighted code without marks that colour nothing
``lean_figures``     figures at a third of their weight, looking the same
``own_address``      no link to a repository that nobody owns
``widget_pages``     widgets live without a kernel, or the build fails
``api_signatures``   signatures on the API page, readable without a glossary
``accessible_html``  HTML that does not mislead a screen reader
"""

import accessible_html
import api_signatures
import fresh_execution
import lean_code
import lean_figures
import lean_theme
import own_address
import widget_pages
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register every listener; Sphinx calls this once per build."""
    fresh_execution.setup(app)
    lean_theme.setup(app)
    lean_code.setup(app)
    lean_figures.setup(app)
    own_address.setup(app)
    widget_pages.setup(app)
    api_signatures.setup(app)
    accessible_html.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
