"""German sentences with their translations, made by a small grammar: enough to see a model learn, shipped with it."""

from __future__ import annotations

import random
from functools import cache
from itertools import product

from lookbehind.translation.pairs import Pair

# Nouns with their gender; adjectives by their stem; verbs in the third person.
SUBJECTS = (
    ("m", "Mann", "man"), ("f", "Frau", "woman"), ("n", "Kind", "child"), ("m", "Lehrer", "teacher"),
    ("f", "Ärztin", "doctor"), ("n", "Mädchen", "girl"), ("m", "Nachbar", "neighbour"), ("f", "Katze", "cat"),
)  # fmt: skip
OBJECTS = (
    ("m", "Ball", "ball"), ("f", "Tasche", "bag"), ("n", "Buch", "book"), ("m", "Stuhl", "chair"),
    ("f", "Lampe", "lamp"), ("n", "Fenster", "window"), ("m", "Schlüssel", "key"), ("f", "Blume", "flower"),
)  # fmt: skip
VERBS = (
    ("sieht", "sees", "see"), ("sucht", "seeks", "seek"), ("findet", "finds", "find"), ("kauft", "buys", "buy"),
    ("malt", "paints", "paint"), ("liebt", "loves", "love"),
)  # fmt: skip
ADJECTIVES = (("rot", "red"), ("alt", "old"), ("klein", "small"), ("neu", "new"), ("schön", "beautiful"))
TIMES = (("heute", "today"), ("morgens", "in the morning"), ("jetzt", "now"), ("oft", "often"))
NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
ACCUSATIVE = NOMINATIVE | {"m": "den"}
COUNT = 320


@cache
def pairs() -> tuple[Pair, ...]:
    """Return 320 different pairs, in a fixed order: statements, statements that begin with a time, and questions.

    Example:
        >>> pairs()[0]
        ('Das Mädchen malt heute die kleine Lampe.', 'The girl paints the small lamp today.')

    """
    forms = (_statement, _time_first, _question)
    made = [
        form(subject, verb, adjective, noun, time)
        for form, subject, verb, adjective, noun, time in product(forms, SUBJECTS, VERBS, ADJECTIVES, OBJECTS, TIMES)
    ]
    random.Random(0).shuffle(made)
    return tuple(dict.fromkeys(made))[:COUNT]


Noun = tuple[str, str, str]


def _subject(noun: Noun) -> Pair:
    gender, german, english = noun
    return f"{NOMINATIVE[gender]} {german}", f"the {english}"


def _object(adjective: Pair, noun: Noun) -> Pair:
    gender, german, english = noun
    ending = "en" if gender == "m" else "e"
    return f"{ACCUSATIVE[gender]} {adjective[0]}{ending} {german}", f"the {adjective[1]} {english}"


def _statement(subject: Noun, verb: Noun, adjective: Pair, noun: Noun, time: Pair) -> Pair:
    (who, who_en), (what, what_en) = _subject(subject), _object(adjective, noun)
    return _sentence(f"{who} {verb[0]} {time[0]} {what}."), _sentence(f"{who_en} {verb[1]} {what_en} {time[1]}.")


def _time_first(subject: Noun, verb: Noun, adjective: Pair, noun: Noun, time: Pair) -> Pair:
    (who, who_en), (what, what_en) = _subject(subject), _object(adjective, noun)
    return _sentence(f"{time[0]} {verb[0]} {who} {what}."), _sentence(f"{time[1]} {who_en} {verb[1]} {what_en}.")


def _question(subject: Noun, verb: Noun, adjective: Pair, noun: Noun, time: Pair) -> Pair:
    (who, who_en), (what, what_en) = _subject(subject), _object(adjective, noun)
    return _sentence(f"{verb[0]} {who} {what}?"), _sentence(f"does {who_en} {verb[2]} {what_en}?")


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
