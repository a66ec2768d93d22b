"""The classes of VOC 2012 and COCO."""

from __future__ import annotations

from fslab.records import COCO_THINGS, Vocabulary

VOC_CLASSES: tuple[str, ...] = (
    "background",
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""VOC's 21 labels in the order of their ids: the background, then the classes by alphabet."""

VOC = Vocabulary(
    names=VOC_CLASSES,
    spoken={
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor",
    },
    synonyms={
        "aeroplane": ("airplane", "plane", "aircraft", "jet"),
        "bicycle": ("bike", "cycle"),
        "boat": ("ship", "sailboat"),
        "bus": ("coach",),
        "car": ("automobile",),
        "cat": ("kitten",),
        "chair": ("armchair", "stool"),
        "cow": ("bull", "calf", "cattle"),
        "diningtable": ("table", "plate"),
        "dog": ("puppy",),
        "horse": ("pony", "foal"),
        "motorbike": ("motorcycle", "scooter", "moped"),
        "person": (
            *("man", "woman", "child", "people", "boy", "girl", "men", "women", "children"),
            *("person in shirt", "person in jeans", "person in dress"),
        ),
        "pottedplant": ("plant", "plant in a pot", "houseplant", "flowerpot"),
        "sheep": ("lamb",),
        "sofa": ("couch", "settee"),
        "train": ("locomotive", "tram"),
        "tvmonitor": ("tv", "television", "monitor", "screen"),
    },
)
"""VOC 2012 as texts: several synonyms are those of SCLIP (Wang et al., ECCV 2024)."""

COCO_OBJECT = Vocabulary(
    names=("background", *COCO_THINGS),
    synonyms={
        "person": ("man", "woman", "child", "people", "boy", "girl", "men", "women", "children"),
        "bicycle": ("bike", "cycle"),
        "car": ("automobile",),
        "motorcycle": ("motorbike", "scooter", "moped"),
        "airplane": ("aeroplane", "plane", "aircraft", "jet"),
        "train": ("locomotive",),
        "truck": ("lorry",),
        "boat": ("ship", "sailboat"),
        "cat": ("kitten",),
        "dog": ("puppy",),
        "horse": ("pony", "foal"),
        "sheep": ("lamb",),
        "cow": ("bull", "calf", "cattle"),
        "backpack": ("rucksack",),
        "handbag": ("purse",),
        "tie": ("necktie",),
        "sports ball": ("ball",),
        "wine glass": ("wineglass",),
        "cup": ("mug",),
        "donut": ("doughnut",),
        "couch": ("sofa", "settee"),
        "potted plant": ("plant", "houseplant"),
        "dining table": ("table",),
        "tv": ("television", "tv monitor", "monitor", "screen"),
        "remote": ("remote control",),
        "cell phone": ("phone", "mobile phone", "smartphone"),
        "refrigerator": ("fridge",),
        "hair drier": ("hair dryer", "hairdryer"),
    },
)
"""COCO-Object: the background and COCO's 80 things, in the order of their category ids."""
