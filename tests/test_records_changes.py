"""A recipe's settings change together: no order of them passes through a state that is refused."""

from itertools import permutations

import pytest

from fslab.lab import METHODS
from fslab.records import Clustering, FslabError, Recipe

TOGETHER = [
    {"cluster.method": "ncut", "cluster.also": ()},
    {"match.assignment": "argmax", "match.attention": 0},
    {"cluster.k": 0, "cluster.k_is": "candidates", "cluster.also": ()},
]


@pytest.mark.parametrize("settings", TOGETHER, ids=str)
def test_settings_change_in_any_order(settings):
    recipes = [METHODS["fslab"].change(dict(order)) for order in permutations(settings.items())]
    assert len({recipe.digest for recipe in recipes}) == 1
    assert recipes[0].digest != METHODS["fslab"].digest


def test_half_of_them_is_still_refused():
    with pytest.raises(FslabError, match="goes with a fixed K"):
        METHODS["fslab"].change({"cluster.method": "ncut"})


def test_a_recipe_comes_back_from_its_dict_whatever_its_settings():
    recipe = Recipe("own", cluster=Clustering(k=0, k_is="candidates"))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
