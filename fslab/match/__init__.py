"""Names for segments, from CLIP or a model in its place."""

from fslab.match.families import MATCHERS, matcher_family
from fslab.match.matcher import Matcher, load_matcher
from fslab.match.naming import Match, encode_views, paint, score_segments, text_scores
from fslab.match.patches import Patches, read_together
from fslab.match.views import views
from fslab.match.vote import match, name_segments, vote

__all__ = [
    "MATCHERS",
    "Match",
    "Matcher",
    "Patches",
    "encode_views",
    "load_matcher",
    "match",
    "matcher_family",
    "name_segments",
    "paint",
    "read_together",
    "score_segments",
    "text_scores",
    "views",
    "vote",
]
