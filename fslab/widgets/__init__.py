"""Looking inside by hand: explorers for notebooks, on ipywidgets and plotly."""

from fslab.records import FslabError

try:
    import anywidget  # noqa: F401 - figures are drawn by it

    from fslab.widgets.clusters import ClusterExplorer, explore_clusters
    from fslab.widgets.correspondence import CorrespondenceExplorer, explore_correspondence
    from fslab.widgets.explorer import Explorer
    from fslab.widgets.features import FeatureExplorer, explore_features
    from fslab.widgets.matching import MatchExplorer, explore_matching
    from fslab.widgets.refinement import RefinementExplorer, explore_refinement
    from fslab.widgets.results import ResultBrowser, browse_results
    from fslab.widgets.yours import SegmentYours, segment_yours
except ModuleNotFoundError as error:
    if error.name not in ("anywidget", "ipywidgets"):
        raise
    raise FslabError(
        f"{error.name}, which the explorers need, is not installed; "
        "pip install 'fslab[lab]' brings it"
    ) from error

__all__ = [
    "ClusterExplorer",
    "CorrespondenceExplorer",
    "Explorer",
    "FeatureExplorer",
    "MatchExplorer",
    "RefinementExplorer",
    "ResultBrowser",
    "SegmentYours",
    "browse_results",
    "explore_clusters",
    "explore_correspondence",
    "explore_features",
    "explore_matching",
    "explore_refinement",
    "segment_yours",
]
