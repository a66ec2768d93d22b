"""The page that `fslab app` serves: three explorers in a browser tab, without a notebook."""

from fslab.app.page import Page, show
from fslab.app.shown import Shown

__all__ = ["Page", "Shown", "show"]
