"""A recipe's settings change together: no order of them passes through a state that is refused."""

from itertools import permutations

import pytest

from fslab.lab import METHODS
from fslab.records import (
    Clustering,
    FslabError,
    KMeans,
    MaskCrfs,
    NormalisedCut,
    Recipe,
    Refinement,
)

TOGETHER = [
    {"cluster.method": "ncut", "cluster.tau": 0.3},
    {"match.assignment": "argmax", "match.attention": 0},
    {"cluster.k": 0, "cluster.k_is": "candidates", "cluster.also": ()},
]


@pytest.mark.parametrize("settings", TOGETHER, ids=str)
def test_settings_change_in_any_order(settings):
    recipes = [METHODS["fslab"].change(dict(order)) for order in permutations(settings.items())]
    assert len({recipe.digest for recipe in recipes}) == 1
    assert recipes[0].digest != METHODS["fslab"].digest


def test_another_method_keeps_the_settings_that_it_has_too():
    changed = METHODS["fslab"].change({"cluster.method": "ncut"}).cluster
    assert changed == NormalisedCut(normalise="l2")
    sharp = METHODS["fslab"].change({"refine.method": "crf"}).refine
    assert sharp == MaskCrfs(**vars(METHODS["fslab"].refine))


REFUSED = {
    "clustering by 'kmeans' has no setting 'tau'.*tau is a setting of ncut": {"cluster.tau": 0.3},
    "clustering by 'ncut' has no setting 'k'": {"cluster.method": "ncut", "cluster.k": 6},
    "no clustering 'kmean'.*did you mean kmeans": {"cluster.method": "kmean"},
    "a recipe has no setting 'clutser.k'; its stages are extract": {"clutser.k": 3},
    "match has regions, .*view": {"match.vew": "box"},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_settings_that_a_method_does_not_have_are_refused(message):
    with pytest.raises(FslabError, match=message):
        METHODS["fslab"].change(REFUSED[message])


OLD = {
    "k": 6, "k_is": "fixed", "also": [], "normalise": "l2", "position": 0.0, "grid": None,
    "upsample": "features", "restarts": 10, "seed": 0, "tau": 0.5, "alpha": 10.0, "anchors": 16,
    "rounds": 3, "threshold": 1.0,
}  # fmt: skip
"""A clustering as version 0.1 wrote it: the settings of all methods."""


@pytest.mark.parametrize("base", [Clustering, Refinement])
def test_how_0_1_made_them_is_refused_with_how_it_is_done_now(base):
    for given in ((), ("kmeans",)):
        with pytest.raises(FslabError, match=rf"since 0\.2; write {base.__name__}\.of\(method"):
            base(*given, method="pamr")


def test_a_recipe_of_version_0_1_is_read_where_what_was_set_is_the_method_s():
    old = {"method": "kmeans", **OLD}
    assert Recipe.from_dict({"cluster": old}).cluster == KMeans(k=6, normalise="l2")
    cut = {"method": "ncut", **OLD, "k": 4, "tau": 0.3}
    assert Recipe.from_dict({"cluster": cut}).cluster == NormalisedCut(normalise="l2", tau=0.3)
    with pytest.raises(FslabError, match="'kmeans' has no setting 'tau'"):
        Recipe.from_dict({"cluster": {**old, "tau": 0.3}})
    with pytest.raises(FslabError, match="a recipe has no 'clusters'"):
        Recipe.from_dict({"clusters": old})


def test_a_recipe_comes_back_from_its_dict_whatever_its_settings():
    recipe = Recipe("own", cluster=Clustering.of(k=0, k_is="candidates"))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
