import numpy as np
import pytest
import torch
from PIL import Image

from fslab.match import load_matcher, match, paint, score_segments, text_scores, views
from fslab.records import FslabError, Matching, Picture, Segments, Vocabulary

VOCABULARY = Vocabulary(
    ("background", "cat", "dog", "tvmonitor"),
    spoken={"tvmonitor": "tv monitor"},
    synonyms={"tvmonitor": ("screen",), "dog": ("puppy",)},
)


class FakeMatcher:
    """Hand-set logits: `table[text]` holds one number a segment; vectors are unit length."""

    scale = 10.0

    def __init__(self, table):
        self.table = table
        self.calls = []
        self.segments = len(next(iter(table.values())))

    def encode_images(self, images):
        self.calls.append(len(images))
        return np.eye(len(images), self.segments + 1, dtype=np.float32)

    def encode_texts(self, texts):
        rows = np.zeros((len(texts), self.segments + 1), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:-1] = self.table[text]
            row[-1] = np.sqrt(1 - (row**2).sum())
        return rows


def strips(count, size=(4, 6)):
    """Return a black picture and vertical strips of equal width, segments 0..count-1."""
    columns = np.arange(size[1]) * count // size[1]
    labels = np.broadcast_to(columns, size).astype(np.int32)
    return Picture(np.zeros((*size, 3), np.uint8)), Segments(labels)


def assigned(table, candidates, **settings):
    matcher = FakeMatcher(table)
    picture, segments = strips(matcher.segments)
    found = score_segments(picture, segments, VOCABULARY, candidates, Matching(**settings), matcher)
    assert matcher.calls == [matcher.segments]
    return found.assigned.tolist()


TABLE = {
    "cat": (0.6, 0.5, 0.1),
    "dog": (0.3, 0.4, 0.0),
    "tv monitor": (0.0, 0.1, 0.7),
    "screen": (0.0, 0.7, 0.0),
    "puppy": (0.0, 0.0, 0.0),
    "wall": (0.2, 0.2, 0.2),
}


def test_each_class_keeps_only_its_best_segment():
    # Segments 0 and 1 are both cats first; 0 is the better cat, and 1 the better dog.
    assert assigned(TABLE, ("cat", "dog")) == [1, 2, 0]
    # Without the dog nothing is left to segment 1.
    assert assigned(TABLE, ("cat",)) == [1, 0, 0]
    assert assigned(TABLE, ("cat", "dog", "tvmonitor")) == [1, 2, 3]


def test_a_class_may_lose_its_segment_to_another_class():
    # Segment 0 is the best cat and the best dog, and can only be one of them.
    table = TABLE | {"cat": (0.6, 0.5), "dog": (0.7, 0.1), "tv monitor": (0.0, 0.0)}
    table = {text: row[:2] for text, row in table.items()}
    assert assigned(table, ("cat", "dog")) == [2, 1]
    table["cat"] = (0.6, 0.1)
    table["tv monitor"] = (0.0, 0.6)
    # Probabilities decide, not logits: of segment 1 the monitor takes nearly all.
    assert assigned(table, ("cat", "dog")) == [2, 0]


def test_argmax_lets_segments_share_a_class():
    assert assigned(TABLE, ("cat", "dog"), assignment="argmax") == [1, 1, 1]
    assert assigned(TABLE, ("cat", "tvmonitor"), assignment="argmax") == [1, 1, 3]


def test_background_words_mean_the_background():
    assert assigned(TABLE, ("cat", "dog"), assignment="argmax", background=("wall",)) == [1, 1, 0]
    assert assigned(TABLE, ("cat", "dog"), background=("wall",)) == [1, 2, 0]
    loud = TABLE | {"wall": (0.2, 0.6, 0.6)}
    assert assigned(loud, ("cat", "dog"), background=("wall",)) == [1, 0, 0]


def test_ties_go_to_the_first():
    table = dict.fromkeys(TABLE, (0.3, 0.3))
    assert assigned(table, ("cat", "dog"), background=("wall",)) == [1, 0]
    assert assigned(table, ("dog", "cat"), assignment="argmax") == [1, 1]
    assert assigned(table, ("dog",)) == [2, 0]


def test_synonyms_score_as_the_best_of_them():
    assert assigned(TABLE, ("tvmonitor", "cat"), assignment="argmax", synonyms=True) == [1, 3, 3]
    matcher = FakeMatcher(TABLE)
    found = text_scores(np.eye(3, 4), [("cat",), ("tv monitor", "screen")], ("{}",), matcher)
    logits = 10 * np.array([[0.6, 0.0], [0.5, 0.7], [0.1, 0.7]])
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_templates_are_averaged_and_made_unit_length():
    table = {"a cat": (1.0, 0.0), "the cat": (0.0, 1.0), "a dog": (0.0, 0.0), "the dog": (0.0, 0.0)}
    found = text_scores(np.eye(2, 3), [("cat",), ("dog",)], ("a {}", "the {}"), FakeMatcher(table))
    cat = 10 * np.sqrt(0.5)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-cat)), rtol=1e-5)


def test_softmax_runs_over_the_vocabulary_or_the_candidates():
    picture, segments = strips(3)
    for compete, texts in (("vocabulary", ("cat", "dog", "tvmonitor")), ("candidates", ("dog",))):
        recipe = Matching(compete=compete, background=("wall",))
        found = score_segments(picture, segments, VOCABULARY, ("dog",), recipe, FakeMatcher(TABLE))
        assert found.texts == (*texts, "wall")
        assert found.probabilities.shape == (3, len(found.texts))
        np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)


def test_one_candidate_alone_takes_its_best_segment():
    picture, segments = strips(3)
    recipe = Matching(compete="candidates")
    found = match(picture, segments, VOCABULARY, ("dog",), recipe, FakeMatcher(TABLE))
    assert found.labels[0].tolist() == [2, 2, 0, 0, 0, 0]  # all are certain: a tie
    assert found.scores == {"dog": 1.0}


def test_the_label_map_is_painted_and_scored():
    picture, segments = strips(3)
    matcher = FakeMatcher(TABLE)
    arguments = (picture, segments, VOCABULARY, ("tv monitor", "cat"), Matching(), matcher)
    found, labels = score_segments(*arguments), match(*arguments)
    assert labels.labels.dtype == np.uint8
    assert labels.labels.tolist() == [[1, 1, 0, 0, 3, 3]] * 4
    assert labels.names == VOCABULARY.names
    assert labels.scores == {
        "cat": float(found.probabilities[0, 0]),
        "tvmonitor": float(found.probabilities[2, 2]),
    }
    again = paint(segments, found, VOCABULARY)
    assert np.array_equal(again.labels, labels.labels)


def test_without_candidates_all_is_background_and_clip_is_not_asked():
    picture, segments = strips(3)
    found = match(picture, segments, VOCABULARY, (), Matching(background=("wall",)), None)
    assert not found.labels.any()
    assert found.labels.shape == picture.size
    assert found.scores == {}


def test_a_background_word_that_names_a_class_is_a_class():
    picture, segments = strips(3)
    recipe = Matching(background=("wall", "dog", "puppy", "wall"))
    found = score_segments(picture, segments, VOCABULARY, ("dog",), recipe, FakeMatcher(TABLE))
    assert found.texts == ("cat", "dog", "tvmonitor", "wall")


def test_refusals_name_what_was_given():
    picture, segments = strips(3)
    matcher = FakeMatcher(TABLE)
    with pytest.raises(FslabError, match=r"candidate 'dgo' .*dog"):
        match(picture, segments, VOCABULARY, ("dgo",), Matching(), matcher)
    with pytest.raises(FslabError, match="candidate 'background'"):
        match(picture, segments, VOCABULARY, ("background",), Matching(), matcher)
    with pytest.raises(FslabError, match=r"picture is \(5, 6\)"):
        views(Picture(np.zeros((5, 6, 3), np.uint8)), segments, Matching())
    many = Vocabulary(("background", *(f"class {index}" for index in range(65535))))
    for wanted in ((), ("class 3",)):
        with pytest.raises(FslabError, match="65535 classes"):
            match(picture, segments, many, wanted, Matching(), matcher)


@pytest.fixture
def scene():
    """Return a 5 x 8 picture of distinct colours and an L-shaped segment 1 in its corner."""
    pixels = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    labels = np.zeros((5, 8), np.int32)
    labels[0:3, 6] = labels[2, 7] = 1
    return Picture(pixels), Segments(labels)


def test_frame_views_pixel_by_pixel(scene):
    picture, segments = scene
    mean = np.round(picture.pixels.reshape(-1, 3).mean(0)).astype(np.uint8)
    for view, fill in (("masked", (0, 0, 0)), ("mean", mean)):
        found = views(picture, segments, Matching(view=view))
        assert len(found) == 2
        for index, shown in enumerate(found):
            assert shown.dtype == np.uint8
            for place in np.ndindex(5, 8):
                own = segments.labels[place] == index
                expected = picture.pixels[place] if own else fill
                assert tuple(shown[place]) == tuple(expected)


def test_box_views_are_squares_inside_the_picture(scene):
    picture, segments = scene
    masked = views(picture, segments, Matching(view="masked"))
    mean = views(picture, segments, Matching(view="mean"))
    # Rows 0..2 and columns 6..7: a square of 3, moved left to stay inside.
    for view, whole in (("box", picture.pixels), ("masked-box", masked[1]), ("mean-box", mean[1])):
        shown = views(picture, segments, Matching(view=view))[1]
        assert np.array_equal(shown, whole[0:3, 5:8])
    # A third of 3 on each side makes 5: the whole height, and the last five columns.
    wide = views(picture, segments, Matching(view="box", margin=1 / 3))
    assert np.array_equal(wide[1], picture.pixels[0:5, 3:8])
    # Segment 0 spans 8 columns and the picture has 5 rows only: no square is to be had.
    assert np.array_equal(wide[0], picture.pixels)


def test_a_box_is_centred_where_there_is_room():
    labels = np.zeros((9, 9), np.int32)
    labels[4, 3:6] = 1
    picture = Picture(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    found = views(picture, Segments(labels), Matching(view="box"))
    assert np.array_equal(found[1], picture.pixels[3:6, 3:6])
    tiny = Picture(np.full((1, 1, 3), 7, np.uint8))
    for view in ("masked", "box", "mean", "masked-box", "mean-box"):
        one = views(tiny, Segments(np.zeros((1, 1), np.int32)), Matching(view=view, margin=0.5))
        assert np.array_equal(one[0], tiny.pixels)


@pytest.fixture
def matcher(clip):
    return load_matcher(clip)


def test_vectors_equal_the_plain_transformers_call(matcher):
    texts = ["dog", "a dog on a longer sentence", "cat"]
    images = [
        np.random.default_rng(seed).integers(0, 256, (20, 31, 3), dtype=np.uint8)
        for seed in range(3)
    ]
    model = matcher.model
    tokens = matcher.tokenizer(texts, padding=True, return_tensors="pt")
    pixels = matcher.image_processor(images=list(map(Image.fromarray, images)), return_tensors="pt")
    with torch.inference_mode():
        plain = model(**tokens, **pixels)
    words, shown = matcher.encode_texts(texts), matcher.encode_images(images)
    assert words.dtype == shown.dtype == np.float32
    assert words.shape == shown.shape == (3, 8)
    np.testing.assert_allclose(words, plain.text_embeds.numpy(), atol=1e-6)
    np.testing.assert_allclose(shown, plain.image_embeds.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-6)
    scaled = matcher.scale * shown @ words.T
    np.testing.assert_allclose(scaled, plain.logits_per_image.numpy(), atol=1e-5)


def count_calls(monkeypatch, matcher):
    """Record the batch size of every pass through either of the model's towers."""
    calls = {"text": [], "image": []}
    model = matcher.model
    text, image = model.get_text_features, model.get_image_features

    def text_pass(ids, mask):
        calls["text"].append(len(ids))
        return text(ids, mask)

    def image_pass(pixels):
        calls["image"].append(len(pixels))
        return image(pixels)

    monkeypatch.setattr(model, "get_text_features", text_pass)
    monkeypatch.setattr(model, "get_image_features", image_pass)
    return calls


def test_texts_are_encoded_once_and_views_in_one_batch(matcher, monkeypatch):
    calls = count_calls(monkeypatch, matcher)
    picture, segments = strips(3, (10, 24))
    recipe = Matching(templates=("{}", "a {}"), synonyms=True, background=("wall",))
    maps = [match(picture, segments, VOCABULARY, ("dog", "cat"), recipe, matcher) for _ in range(2)]
    # cat, dog, puppy, tv monitor, screen and wall in two templates, once for both pictures.
    assert calls == {"text": [12], "image": [3, 3]}
    assert np.array_equal(maps[0].labels, maps[1].labels)
    assert maps[0].scores == maps[1].scores


def test_a_text_given_twice_is_encoded_once(matcher, monkeypatch):
    calls = count_calls(monkeypatch, matcher)
    found = matcher.encode_texts(["dog", "cat", "dog"])
    matcher.encode_texts(["cat", "a cat"])
    assert calls["text"] == [2, 1]
    assert np.array_equal(found[0], found[2])
    assert matcher.encode_texts([]).shape == (0, 8)
    assert matcher.encode_images([]).shape == (0, 8)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 5000), (3, 40), (17, 9)])
def test_odd_pictures_are_encoded(matcher, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.isfinite(matcher.encode_images([pixels])).all()


def test_a_very_long_picture_is_seen_as_its_middle(matcher):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 200, 3), dtype=np.uint8)
    whole = matcher.encode_images([pixels])
    np.testing.assert_allclose(whole, matcher.encode_images([pixels[:, 84:116]]), atol=1e-5)


def test_half_precision_gives_float32(clip):
    matcher = load_matcher(clip, dtype=torch.bfloat16)
    found = matcher.encode_texts(["dog"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, load_matcher(clip).encode_texts(["dog"]), atol=0.05)


def test_weights_that_are_not_there_are_refused(clip, tmp_path):
    with pytest.raises(FslabError, match="nowhere is not a folder"):
        load_matcher(tmp_path / "nowhere")
    with pytest.raises(FslabError, match=r"no config\.json"):
        load_matcher(tmp_path)
    for path in clip.iterdir():
        data = path.read_bytes()
        cut = data[: len(data) // 2] if path.suffix == ".safetensors" else data
        (tmp_path / path.name).write_bytes(cut)
    with pytest.raises(FslabError, match="not a whole safetensors file"):
        load_matcher(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FslabError, match=r"no \*\.safetensors"):
        load_matcher(tmp_path)


def test_weights_that_lack_a_layer_are_refused(clip, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in clip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(clip / "model.safetensors")
    weights.pop("text_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(FslabError, match=r"weights lack text_projection\.weight"):
        load_matcher(tmp_path)


def test_another_model_is_refused(clip, tmp_path):
    for path in clip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"clip"', '"blip"'))
    with pytest.raises(FslabError, match="'blip' model; in CLIP's place fslab reads clip"):
        load_matcher(tmp_path)
