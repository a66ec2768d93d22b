"""Vision transformers of every family that transformers has: one path, numbers as its own."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as library
from conftest import noise_picture
from PIL import Image

from fslab import FslabError
from fslab.backbones import open_backbone, pick_layers
from fslab.records import Extraction

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "image_size": 32, "patch_size": 8,
}  # fmt: skip
PLAIN = {name: value for name, value in SIZE.items() if name != "intermediate_size"}
BIASED = {
    "use_relative_position_bias": True,
    "use_absolute_position_embeddings": True,
    "use_mask_token": True,
}
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 20,
}  # fmt: skip

# family -> the class that is saved, its configuration, the class that reads it, the tokens of no
# place before the patches
FAMILIES = {
    "vit": ("ViTModel", "ViTConfig", SIZE, "ViTModel", 1),
    "vit classifier": ("ViTForImageClassification", "ViTConfig", SIZE, "ViTModel", 1),
    "vit, patches of 14": (
        "ViTForImageClassification", "ViTConfig", {**SIZE, "image_size": 42, "patch_size": 14},
        "ViTModel", 1,
    ),
    "deit classifier": ("DeiTForImageClassification", "DeiTConfig", SIZE, "DeiTModel", 2),
    "beit": ("BeitModel", "BeitConfig", {**SIZE, **BIASED}, "BeitModel", 1),
    "beit classifier": (
        "BeitForImageClassification", "BeitConfig", {**SIZE, **BIASED}, "BeitModel", 1,
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", PLAIN, "Dinov2Model", 1),
    "dinov2 classifier": (
        "Dinov2ForImageClassification", "Dinov2Config", PLAIN, "Dinov2Model", 1,
    ),
    "dinov2 with registers": (
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig",
        {**PLAIN, "num_register_tokens": 4}, "Dinov2WithRegistersModel", 5,
    ),
    "dinov3": (
        "DINOv3ViTModel", "DINOv3ViTConfig", {**SIZE, "num_register_tokens": 3},
        "DINOv3ViTModel", 4,
    ),
    "siglip": (
        "SiglipModel", "SiglipConfig",
        {"text_config": {**TEXT, "projection_size": 32}, "vision_config": SIZE},
        "SiglipVisionModel", 0,
    ),
    "siglip vision": ("SiglipVisionModel", "SiglipVisionConfig", SIZE, "SiglipVisionModel", 0),
    "siglip classifier": (
        "SiglipForImageClassification", "SiglipConfig",
        {"text_config": TEXT, "vision_config": SIZE}, "SiglipVisionModel", 0,
    ),
    "mae": ("ViTMAEModel", "ViTMAEConfig", SIZE, "ViTMAEModel", 1),
    "mae with its decoder": (
        "ViTMAEForPreTraining", "ViTMAEConfig",
        {**SIZE, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
         "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16},
        "ViTMAEModel", 1,
    ),
    "i-jepa": ("IJepaModel", "IJepaConfig", SIZE, "IJepaModel", 0),
    "clip": (
        "CLIPModel", "CLIPConfig", {"text_config": TEXT, "vision_config": SIZE},
        "CLIPVisionModel", 1,
    ),
    "clip vision with a projection": (
        "CLIPVisionModelWithProjection", "CLIPVisionConfig", SIZE, "CLIPVisionModel", 1,
    ),
    "msn": ("ViTMSNModel", "ViTMSNConfig", SIZE, "ViTMSNModel", 1),
    "pixio": ("PixioModel", "PixioConfig", SIZE, "PixioModel", 8),
}  # fmt: skip
COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}


def save(folder, model, config, entries):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = getattr(library, model)(getattr(library, config)(**entries))
        with torch.no_grad():
            for value in net.parameters():  # positions and tokens begin as zeros, which hide faults
                value += 0.02 * torch.randn(value.shape)
        net.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(COLOURS))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of a family, saved when it is first asked for."""
    saved = {}

    def folder(family):
        if family not in saved:
            model, config, entries, *_ = FAMILIES[family]
            place = tmp_path_factory.mktemp(model)
            saved[family] = save(place, model, config, entries)
        return saved[family]

    return folder


def own_pass(net, reader, pixels):
    """Return what transformers' own network gives for the pixels, nothing masked or shuffled."""
    more = {"interpolate_pos_encoding": True}
    if reader == "ViTMAEModel":
        net.config.mask_ratio = 0.0
        cells = (pixels.shape[2] // 8) * (pixels.shape[3] // 8)
        more["noise"] = torch.linspace(0, 1, cells)[None]
    if reader.startswith(("DINO", "Dino", "Pixio")):
        more = {}
    with torch.no_grad():
        return net(pixels, output_hidden_states=True, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_transformers_own(folders, family):
    folder, (*_, reader, before) = folders(family), FAMILIES[family]
    backbone = open_backbone(folder)
    paths = [each.path for each in backbone.layers()]
    assert not backbone._nets, "listing loaded weights"
    net = getattr(library, reader).from_pretrained(folder, attn_implementation="sdpa").eval()
    for size in ((1, 1), (2, 3), (3, 1)):
        height, width = (side * backbone.resolution for side in size)
        picture = noise_picture(height, width)
        found = backbone.run(picture, (height, width), {0: paths}, Extraction())
        plain = own_pass(net, reader, backbone.prepare(picture, (height, width)))
        h, w = height // backbone.multiple, width // backbone.multiple
        check_states(found, plain, backbone.default_layers[0], before, (h, w))


def check_states(found, plain, last, before, grid):
    """Each hidden state of transformers is, bit for bit, what some layer gives."""
    h, w = grid
    states = [plain.last_hidden_state, *plain.hidden_states[1:-1]]
    for state in states:
        assert state.shape[1] == before + h * w
        expected = state[0, before:].T.reshape(-1, h, w)
        assert any(torch.equal(value, expected) for value in found.values())
    assert torch.equal(found[last, 0], states[0][0, before:].T.reshape(-1, h, w))


@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_are_transformers_own(folders, family):
    folder, (*_, reader, before) = folders(family), FAMILIES[family]
    backbone = open_backbone(folder)
    paths = [each.path for each in backbone.layers() if each.path.endswith(".probs")]
    size = (backbone.resolution, 2 * backbone.resolution)
    picture = noise_picture(*size)
    found = backbone.run(picture, size, {0: paths}, Extraction())
    pixels = backbone.prepare(picture, size)
    net = getattr(library, reader).from_pretrained(folder, attn_implementation="eager").eval()
    net.config.mask_ratio = 0.0
    with torch.no_grad():
        attentions = backbone._tower.call(with_attentions(net), pixels).attentions
    assert len(paths) == len(attentions)
    for path, own in zip(paths, attentions, strict=True):
        expected = own[0].mean(0)[before:, before:]
        assert torch.allclose(found[path, 0].flatten(1).T, expected, atol=1e-6)


def with_attentions(net):
    return lambda pixels, **more: net(pixels, output_attentions=True, **more)


@pytest.mark.parametrize("family", ["mae", "mae with its decoder"])
def test_masking_is_off_and_chance_has_no_part(folders, family):
    backbone, picture = open_backbone(folders(family)), noise_picture(32, 48)
    path = backbone.default_layers
    first = backbone.run(picture, (32, 48), {0: path}, Extraction())[path[0], 0]
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    again = open_backbone(folders(family))
    second = again.run(picture, (32, 48), {0: path}, Extraction())[path[0], 0]
    assert first.shape == (32, 4, 6)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_a_configuration_leaves_out_is_the_class_s_own(folders, tmp_path):
    """The hub's siglip-base says of its vision tower the type alone; CLIP's patches are of 32."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model"}})
    )
    backbone = open_backbone(tmp_path, random=0)
    assert (backbone.multiple, backbone.resolution) == (16, 224)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}}))
    assert open_backbone(tmp_path, random=0).multiple == 32


HIERARCHIES = {
    "swin": ("SwinModel", "SwinConfig", {
        "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32,
        "patch_size": 4, "window_size": 4}),
    "convnext": ("ConvNextModel", "ConvNextConfig", {
        "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 4}),
    "resnet": ("ResNetModel", "ResNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}),
    "bert": ("BertModel", "BertConfig", TEXT),
    "siglip2_vision_model": ("Siglip2VisionModel", "Siglip2VisionConfig", {
        name: value for name, value in SIZE.items() if name != "image_size"}),
    "videomae": ("VideoMAEModel", "VideoMAEConfig", {**SIZE, "num_frames": 2}),
    "yolos": ("YolosModel", "YolosConfig", {
        **SIZE, "image_size": [32, 32], "num_detection_tokens": 5}),
    "hiera": ("HieraModel", "HieraConfig", {
        "embed_dim": 8, "image_size": [32, 32], "patch_size": [7, 7], "patch_stride": [4, 4],
        "patch_padding": [3, 3], "depths": [1, 1], "num_heads": [1, 2], "query_stride": [2, 2],
        "masked_unit_size": [4, 4], "num_query_pool": 1}),
}  # fmt: skip


@pytest.mark.parametrize("kind", HIERARCHIES)
def test_other_networks_are_refused_by_their_name(tmp_path, kind):
    folder = save(tmp_path, *HIERARCHIES[kind])
    with pytest.raises(FslabError, match=f"holds a '{kind}' model") as refusal:
        open_backbone(folder).layers()
    assert "fslab reads dinov2" in str(refusal.value)
    if kind == "siglip2_vision_model":
        assert "fixed resolution" in str(refusal.value)


def test_tokens_behind_the_patches_are_refused(tmp_path, monkeypatch):
    """The order is measured: a network that lays its tokens out otherwise gives no map."""
    forward = library.models.vit.modeling_vit.ViTEmbeddings.forward
    folder = save(tmp_path, "ViTModel", "ViTConfig", SIZE)
    for turn in (lambda x: x.roll(-1, 1), lambda x: torch.cat([x[:, :1], x[:, 1:].flip(1)], 1)):
        monkeypatch.setattr(
            library.models.vit.modeling_vit.ViTEmbeddings,
            "forward",
            lambda self, *given, turn=turn, **more: turn(forward(self, *given, **more)),
        )
        backbone = open_backbone(folder)
        with pytest.raises(FslabError, match="not its patches row by row"):
            backbone.run(
                noise_picture(32, 32), (32, 32), {0: backbone.default_layers}, Extraction()
            )


def test_weights_that_a_layer_reads_must_be_there(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders("vit classifier"), tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    assert not [name for name in tensors if "pooler" in name]
    del tensors["vit.layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = open_backbone(folder)
    with pytest.raises(FslabError, match=r"its weights lack layernorm\.weight"):
        backbone.run(noise_picture(32, 32), (32, 32), {0: backbone.default_layers}, Extraction())


def test_registers_are_left_out_of_maps(folders):
    """A picture whose right half is flat has flat maps there, whatever comes before the grid."""
    backbone = open_backbone(folders("dinov2 with registers"))
    layers = pick_layers(["embeddings"], backbone.layers())
    assert [(each.channels, each.stride) for each in layers] == [(32, 8)]
    picture = noise_picture(32, 64)
    picture.pixels[:, 32:] = 7
    found = backbone.run(picture, (32, 64), {0: ["embeddings.patch_embeddings"]}, Extraction())
    (value,) = found.values()
    assert value[:, :, 4:].flatten(1).std(1).max() < 1e-6 < value[:, :, :4].flatten(1).std(1).min()


PROCESSORS = {
    "ViTImageProcessorPil": {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    "CLIPImageProcessorPil": {},
    "SiglipImageProcessorPil": {"rescale_factor": 1 / 127.5},
    "BitImageProcessorPil": {"do_normalize": False},
    "DeiTImageProcessorPil": {"do_rescale": False},
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("nested", [False, True])
def test_colours_are_the_image_processor_s(folders, tmp_path, name, nested):
    folder = shutil.copytree(folders("vit"), tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    processor = getattr(library, name)(do_resize=False, do_center_crop=False, **PROCESSORS[name])
    processor.save_pretrained(folder)
    path, picture = folder / "preprocessor_config.json", noise_picture(32, 48)
    if nested:
        entries = {"image_processor": json.loads(path.read_text())}
        path.unlink()
        (folder / "processor_config.json").write_text(json.dumps(entries))
    own = processor(images=Image.fromarray(picture.pixels), return_tensors="np")["pixel_values"]
    ours = open_backbone(folder).prepare(picture, (32, 48)).numpy()
    assert np.allclose(ours, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (None, "holds no preprocessor_config.json"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "names no image_mean and image_std"),
        ({**COLOURS, "image_std": [0.1, 0, 0.1]}, "image_std of 0"),
        ({**COLOURS, "image_mean": [0.5, 0.5]}, "three numbers"),
        ({**COLOURS, "image_mean": "grey"}, "three numbers"),
        ({**COLOURS, "rescale_factor": "all"}, "a number above 0"),
    ],
)
def test_colours_that_are_not_said_are_refused(folders, tmp_path, entries, said):
    folder = shutil.copytree(folders("vit"), tmp_path / "vit")
    path = folder / "preprocessor_config.json"
    path.unlink() if entries is None else path.write_text(json.dumps(entries))
    with pytest.raises(FslabError, match=said):
        open_backbone(folder, random=0).prepare(noise_picture(32, 32), (32, 32))
