"""A function of a page that draws says so in its name."""

import ast

import pytest

from tests.view_fakes import ROOT

# What puts something on the page, of Streamlit 1.67; containers only hold what others draw.
DRAWS = {
    *("badge", "button", "caption", "checkbox", "code", "dataframe", "download_button", "error"),
    *("form_submit_button", "header", "html", "image", "info", "json", "link_button", "logo"),
    *("markdown", "metric", "multiselect", "number_input", "page_link", "pills", "plotly_chart"),
    *("progress", "radio", "segmented_control", "selectbox", "slider", "subheader", "success"),
    *("table", "text", "text_area", "text_input", "title", "toast", "toggle", "warning", "write"),
}
ENTRIES = {"page", "main"}  # Streamlit runs the file, whose last line calls it
OTHER = {"write_style_sheet", "write_verdict_color"}  # style sheets colour what others draw

Function = ast.FunctionDef | ast.AsyncFunctionDef


def drawing_functions(tree):
    """Return the names of functions that themselves call what draws."""
    return {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, Function) and any(map(_draws, ast.walk(function)))
    }


def _draws(node):
    """Tell whether a node draws: ``st.write(…)``, or the same on a column of the page."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    holder = node.func.value
    on_page = isinstance(holder, ast.Name) and holder.id in ("st", "left", "right", "table")
    return node.func.attr in DRAWS and on_page


def misnamed(tree):
    return {
        name
        for name in drawing_functions(tree) - ENTRIES - OTHER
        if not name.lstrip("_").startswith("draw_")
    }


@pytest.mark.parametrize(
    "path", sorted((ROOT / "views").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_function_that_draws_is_called_draw(path):
    assert misnamed(ast.parse(path.read_text(encoding="utf-8"))) == set()


def test_the_test_sees_what_draws():
    tree = ast.parse("def _verdict(x):\n    with st.container():\n        st.header(x)")
    assert misnamed(tree) == {"_verdict"}
    assert misnamed(ast.parse("def _add(figure):\n    figure.update()")) == set()
