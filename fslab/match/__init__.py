"""Names for segments, from CLIP."""

from fslab.match.matcher import Matcher, load_matcher
from fslab.match.naming import Match, paint, score_segments, text_scores
from fslab.match.views import views
from fslab.match.vote import match, vote

__all__ = [
    "Match",
    "Matcher",
    "load_matcher",
    "match",
    "paint",
    "score_segments",
    "text_scores",
    "views",
    "vote",
]
