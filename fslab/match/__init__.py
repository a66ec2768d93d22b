"""Names for segments, from CLIP."""

from fslab.match.matcher import Matcher, load_matcher
from fslab.match.naming import Match, paint, score_segments, text_scores
from fslab.match.patches import Patches
from fslab.match.views import views
from fslab.match.vote import match, name_segments, vote

__all__ = [
    "Match",
    "Matcher",
    "Patches",
    "load_matcher",
    "match",
    "name_segments",
    "paint",
    "score_segments",
    "text_scores",
    "views",
    "vote",
]
