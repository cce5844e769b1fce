"""Formulas as MathML, which browsers draw by themselves: the built pages need no script and no network."""

from html import escape
from typing import Any

from latex2mathml.converter import convert


def _show(self: Any, node: Any, display: str) -> None:
    """Write a formula; one that cannot be converted is a warning, which the build counts as an error."""
    from docutils import nodes
    from sphinx.util import logging

    try:
        formula = convert(node.astext(), display=display)
        if "\\" in formula or "&amp;" in formula:
            raise ValueError("something in it is not known")
        self.body.append(formula)
    except Exception as fault:  # the library has many kinds
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), fault, location=node)
        self.body.append(f"<code>{escape(node.astext())}</code>")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name `mathml`."""
    inline, block = (
        (lambda self, node: _show(self, node, "inline")),
        (lambda self, node: _show(self, node, "block")),
    )
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
