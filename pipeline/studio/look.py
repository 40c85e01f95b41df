"""How the studio looks: the house's colours on Gradio's parts, no fonts but the system's, and a small script for players."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

HEAD = f"""<meta name="color-scheme" content="light dark">
<style>{(_HERE / "studio.css").read_text("utf-8")}</style>
<script>{(_HERE / "studio.js").read_text("utf-8")}</script>"""
"""For the page's head: as part of Gradio's own style, selectors would be changed."""

PAPER, INK, SOFT, RULE, WELL, KEPT = (
    ("#fdfdfc", "#15181b"),
    ("#1b1e22", "#e6e8ea"),
    ("#5d646d", "#9ba3ac"),
    ("#e2e3e1", "#2c3136"),
    ("#f2f3f1", "#1e2226"),
    ("#1c6e8c", "#57b1d2"),
)
"""Colours by light and dark, as of `page.css`."""

_COLOURS = {
    "body_background_fill": PAPER,
    "body_text_color": INK,
    "body_text_color_subdued": SOFT,
    "background_fill_primary": PAPER,
    "background_fill_secondary": WELL,
    "block_background_fill": PAPER,
    "block_border_color": RULE,
    "block_label_text_color": SOFT,
    "block_label_background_fill": PAPER,
    "block_title_text_color": INK,
    "block_info_text_color": SOFT,
    "border_color_primary": RULE,
    "border_color_accent": KEPT,
    "color_accent_soft": WELL,
    "input_background_fill": WELL,
    "input_background_fill_focus": PAPER,
    "input_border_color": RULE,
    "input_border_color_focus": KEPT,
    "input_placeholder_color": SOFT,
    "checkbox_background_color": PAPER,
    "checkbox_background_color_selected": KEPT,
    "checkbox_border_color": SOFT,
    "checkbox_border_color_focus": KEPT,
    "checkbox_border_color_selected": KEPT,
    "checkbox_label_background_fill": WELL,
    "checkbox_label_background_fill_hover": WELL,
    "checkbox_label_background_fill_selected": WELL,
    "checkbox_label_text_color": INK,
    "checkbox_label_text_color_selected": INK,
    "slider_color": KEPT,
    "loader_color": KEPT,
    "link_text_color": KEPT,
    "link_text_color_hover": KEPT,
    "link_text_color_visited": KEPT,
    "link_text_color_active": KEPT,
    "button_primary_background_fill": KEPT,
    "button_primary_background_fill_hover": KEPT,
    "button_primary_border_color": KEPT,
    "button_primary_text_color": PAPER,
    "button_primary_text_color_hover": PAPER,
    "button_secondary_background_fill": WELL,
    "button_secondary_background_fill_hover": RULE,
    "button_secondary_border_color": RULE,
    "button_secondary_text_color": INK,
    "button_secondary_text_color_hover": INK,
    "panel_background_fill": PAPER,
    "panel_border_color": RULE,
}


def theme() -> Any:
    """Return Gradio's plainest theme in our colours."""
    import gradio

    colours = {f"{name}{mode}": pair[k] for name, pair in _COLOURS.items() for k, mode in enumerate(("", "_dark"))}
    return gradio.themes.Base(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], text_size="md", radius_size="md"
    ).set(color_accent=KEPT[0], block_border_width="0px", block_padding="2px 0", block_shadow="none", **colours)
