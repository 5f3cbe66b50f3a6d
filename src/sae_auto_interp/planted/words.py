"""The vocabulary of the planted world: classes of words of which everybody knows the members.

All classes of nouns have one word of each of the same lengths, and so have all classes of adjectives. A text's number
of characters therefore says nothing about the classes in it: a judge that goes by length alone must be at chance.
"""

NOUNS: dict[str, tuple[str, ...]] = {
    "farm animal": ("goat", "duck", "horse", "sheep", "donkey"),
    "wild animal": ("bear", "wolf", "tiger", "zebra", "monkey"),
    "string instrument": ("harp", "lute", "viola", "banjo", "violin"),
    "wind instrument": ("oboe", "tuba", "flute", "bugle", "cornet"),
    "boat": ("raft", "ship", "canoe", "ferry", "dinghy"),
    "land vehicle": ("tram", "cart", "truck", "wagon", "sledge"),
    "occupation": ("cook", "monk", "baker", "nurse", "sailor"),
    "garment": ("coat", "sock", "shirt", "scarf", "jacket"),
    "building": ("barn", "mill", "tower", "hotel", "castle"),
}
"""Rare in texts that are about something else."""

PLAIN_NOUNS: dict[str, tuple[str, ...]] = {
    "plain 1": ("desk", "wall", "table", "stone", "window"),
    "plain 2": ("door", "lamp", "chair", "paper", "candle"),
    "plain 3": ("coin", "book", "floor", "brick", "carpet"),
    "plain 4": ("rope", "clay", "spoon", "plate", "pencil"),
}

ADJECTIVES: dict[str, tuple[str, ...]] = {
    "colour": ("blue", "pink", "green", "white", "purple"),
    "material": ("wool", "silk", "metal", "glass", "wooden"),
}
PLAIN_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "plain 1": ("cold", "tall", "small", "heavy", "gentle"),
    "plain 2": ("huge", "warm", "clean", "quiet", "broken"),
}

VERBS = ("passed", "followed", "moved", "watched", "changed", "stopped", "left", "missed")

NOUN, ADJECTIVE, VERB = "N", "A", "V"
SENTENCES: tuple[tuple[str, ...], ...] = (
    ("The", ADJECTIVE, NOUN, VERB, "the", NOUN, "today", "."),
    ("Today", "the", NOUN, VERB, "the", ADJECTIVE, NOUN, "."),
    ("One", ADJECTIVE, NOUN, "and", "the", NOUN, VERB, "."),
    ("Near", "the", NOUN, "a", ADJECTIVE, NOUN, VERB, "."),
    ("The", NOUN, VERB, "before", "the", ADJECTIVE, NOUN, "."),
    ("Again", "the", ADJECTIVE, NOUN, VERB, "the", NOUN, "."),
)
"""Eight tokens each, with two nouns, one adjective and one verb; an adjective stands before its noun."""
SENTENCE_TOKENS = 8
