"""Wordings of the questions about a clip."""

from __future__ import annotations

# {c} colour, {s} shape, {x} an object as the asker may name it, {a} an article and an object, {w} a way.
WORDINGS = {
    "background": (
        "What color is the background?",
        "What is the background color?",
        "Which color is the background?",
        "What colour is the background?",
    ),
    "behind": (
        "What color is the background behind {x}?",
        "What color is behind {x}?",
        "What colour is the background behind {x}?",
    ),
    "color": (
        "What color is the {s}?",
        "What colour is the {s}?",
        "Which color is the {s}?",
        "What is the color of the {s}?",
    ),
    "shape": (
        "What shape is the {c} object?",
        "What shape is {c}?",
        "Which shape is {c}?",
        "What is the {c} object?",
        "What is the shape of the {c} object?",
    ),
    "exists": (
        "Is there {a}?",
        "Is there {a} in the video?",
        "Does {a} appear?",
        "Do you see {a}?",
    ),
    "motion": (
        "How does {x} move?",
        "What does {x} do?",
        "What happens to {x}?",
        "What is {x} doing?",
    ),
    "relation": (
        "What is {w} {x}?",
        "What object is {w} {x}?",
        "Which object is {w} {x}?",
    ),
    "where": (
        "Where is {x}?",
        "Where does {x} appear?",
    ),
    "slide": (
        "What does the slide say?",
        "What is written on the slide?",
        "What is on the slide?",
        "What word is on the slide?",
    ),
    "first": (
        "What appears first?",
        "What is first?",
        "What comes first?",
        "What is shown first?",
    ),
    "last": (
        "What appears last?",
        "What is last?",
        "What comes last?",
        "What is shown last?",
    ),
    "after": (
        "What comes after {x}?",
        "What appears after {x}?",
        "What is shown after {x}?",
    ),
    "before": (
        "What comes before {x}?",
        "What appears before {x}?",
        "What is shown before {x}?",
    ),
    "count": (
        "How many objects are there?",
        "How many objects appear?",
        "How many objects are in the video?",
        "How many things appear?",
    ),
    "events": (
        "What happened?",
        "What happens?",
        "What happens in the video?",
        "What happened in the video?",
        "Describe the video.",
        "Describe this video.",
    ),
    "detailed": (
        "Describe the video in detail.",
        "Describe this video in detail.",
        "Give a detailed description.",
    ),
    "dense": (
        "Describe the video step by step.",
        "What happens step by step?",
        "List the events.",
    ),
    "objects": (
        "List the objects.",
        "Which objects appear?",
        "What objects are in the video?",
    ),
    "region": (
        "Describe {x}.",
        "Give a description of {x}.",
        "What can you say about {x}?",
    ),
}
MOVERS = {
    "stays still": ("What stays still?", "Which object stays still?", "What does not move?"),
    "grows": ("What grows?", "Which object grows?", "What is growing?", "What gets bigger?"),
    "shrinks": ("What shrinks?", "Which object shrinks?", "What is shrinking?", "What gets smaller?"),
}
for _way in ("left", "right", "up", "down"):
    MOVERS[f"moves {_way}"] = (
        f"What moves {_way}?",
        f"Which object moves {_way}?",
        f"What is moving {_way}?",
        f"What goes {_way}?",
    )
WAYS = {
    "is left of": (("left of", "to the left of"), ("right of", "to the right of")),
    "is above": (("above", "over"), ("below", "under")),
}
"""Wordings of each relation: of the first object to the second, and of the second to the first."""
ORDINALS = ("First", "second", "third", "fourth")
