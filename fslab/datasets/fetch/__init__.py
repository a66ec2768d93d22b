"""The real data sets from their publishers: downloaded when asked for, checked, unpacked."""

from fslab.datasets.fetch.archives import SETS, Archive
from fslab.datasets.fetch.place import fetch

__all__ = ["SETS", "Archive", "fetch"]
