"""Signatures on the API page, readable without a glossary and checked where it counts.

Types from outside the package (`ndarray`, `Float`, a shape in a docstring) have no page
here to link to, and fetching other projects' indices would make the build depend on
their servers. They stay plain text. A reference into `pkg` that leads nowhere is still
an error under ``-n``.
"""

from docutils import nodes
from sphinx.addnodes import desc_addname, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> None:
    """Answer for the types that no page of this book describes."""
    app.connect("missing-reference", leave_outside_types_plain)
    app.connect("doctree-read", name_by_room)


def leave_outside_types_plain(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    """Return the text of a type from elsewhere; None leaves the error standing."""
    of_python = node.get("refdomain") == "py" and node.get("reftype") in (
        "class",
        "obj",
    )
    if of_python and not node["reftarget"].startswith("pkg."):
        return content
    return None


def name_by_room(app: Sphinx, doctree: nodes.document) -> None:
    """Print ``dynamics.step_times``, as the chapters call it; anchors stay whole."""
    for name in doctree.findall(desc_addname):
        room = name.astext().removeprefix("pkg.")
        name.children = [nodes.Text(room)]
