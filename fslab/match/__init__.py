"""Names for segments, from CLIP or a model in its place."""

from fslab.match.bank import Bank, read_bank, region_keys
from fslab.match.families import MATCHERS, matcher_family
from fslab.match.matcher import Matcher, load_matcher
from fslab.match.naming import Match, encode_views, paint, score_segments, text_scores
from fslab.match.patches import Patches, read_together
from fslab.match.purifying import consistency
from fslab.match.regions import RegionVectors, read_regions
from fslab.match.spreading import (
    doubly_normalised,
    markov_chain,
    spread_beliefs,
    walk_beliefs,
)
from fslab.match.views import views
from fslab.match.vote import by_evidence, match, name_segments, vote

__all__ = [
    "MATCHERS",
    "Bank",
    "Match",
    "Matcher",
    "Patches",
    "RegionVectors",
    "by_evidence",
    "consistency",
    "doubly_normalised",
    "encode_views",
    "load_matcher",
    "markov_chain",
    "match",
    "matcher_family",
    "name_segments",
    "paint",
    "read_bank",
    "read_regions",
    "read_together",
    "region_keys",
    "score_segments",
    "spread_beliefs",
    "text_scores",
    "views",
    "vote",
    "walk_beliefs",
]
