"""The documentation as a site: `sphinx-build -W docs site`, and open site/index.html.

It loads nothing from elsewhere, and works from a disk. Links between pages and to files of the
repository are checked: a broken one ends the build.
"""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "replyd"
html_title = "replyd"
html_theme = "furo"
extensions = ["myst_parser"]
# Headings can be linked to as on the pages of a repository.
myst_heading_anchors = 4
nitpicky = True
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# Texts as they are written: -- is an option, no dash.
smartquotes = False


def setup(app: Sphinx) -> None:
    # Diagrams are shown as their text: what draws them would have to be loaded.
    app.add_lexer("mermaid", TextLexer)
