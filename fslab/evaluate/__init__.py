"""Methods over datasets."""

from fslab.evaluate.run import ImageResult, Report, evaluate, within

__all__ = ["ImageResult", "Report", "evaluate", "within"]
