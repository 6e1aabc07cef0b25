"""Readers of sentence pairs, and splits without leakage. All files are written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookbehind.data import DataError, trans_de_en
from lookbehind.translation import dictionary, grammar, iwslt
from lookbehind.translation.corpus import balanced, find, load, of_frequent_words, unrepeated, words_of
from lookbehind.translation.dictionary import pairs_of

# --- the format of trans-de-en -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Hut {m} :: hat", [("Hut", "hat")]),
        ("Hut {m}; Kappe {f} [textil.] | Hüte {pl} :: hat; cap [Br.] | hats", [("Hut", "hat"), ("Hüte", "hats")]),
        ("den Hut ziehen {vt} (vor jdm.) :: to raise your hat (to sb.)", [("den Hut ziehen", "to raise your hat")]),
        ("Bett {n} (mit (vier) Pfosten) <Bett> :: bed /BD/ {a [b] c}", [("Bett", "bed")]),
        ("etw. heben/senken | Ich hebe. :: to lift/lower sth. | I lift.", [("Ich hebe.", "I lift.")]),
        ("a (b; c | d) e :: x", [("a e", "x")]),
        ("eins | zwei :: one", []),
        ("{f} [a.] :: nothing left", []),
        ("(offen :: open", []),
        ("# Version :: 1", []),
        ("kein Trenner", []),
        ("", []),
    ],
)
def test_a_line(line: str, expected: list[tuple[str, str]]) -> None:
    assert list(pairs_of(line + "\n")) == expected


def written(root: Path, text: str) -> Path:
    (root / "trans-de-en").mkdir(parents=True)
    path = root / "trans-de-en" / "de-en"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_dictionary(tmp_path: Path) -> None:
    path = written(tmp_path, "# Version :: 1\nein Hut {m} :: a hat\nein Haus; x | Häuser :: a house | houses\n")
    assert find("trans-de-en", tmp_path) == path
    assert dictionary.read(path) == (("ein Hut", "a hat"), ("ein Haus", "a house"), ("Häuser", "houses"))
    path.write_text("nothing here\n")
    with pytest.raises(DataError, match="has no line of the form DE :: EN"):
        dictionary.read(path)
    path.write_bytes(b"\xff\xfe :: \xff")
    with pytest.raises(DataError, match="cannot be read"):
        dictionary.read(path)


def test_without_the_dictionary(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trans_de_en, "DEBIAN", tmp_path / "none")
    with pytest.raises(DataError, match="apt-get install trans-de-en, or put the file de-en of that package there"):
        load("trans-de-en", tmp_path)


def test_the_installed_dictionary() -> None:
    if not trans_de_en.DEBIAN.is_file():
        pytest.skip("the package trans-de-en is not installed")
    pairs = dictionary.read(trans_de_en.DEBIAN)
    assert len(pairs) > 250_000
    assert ("Aalsuppe", "eel soup") in pairs
    assert not [pair for pair in pairs if set("{}[]()|;<>/") & set("".join(pair)) or "  " in "".join(pair)]


# --- splits ------------------------------------------------------------------------------------------------------


def numbered(count: int) -> str:
    """Pairs of which each sentence occurs again with another one."""
    lines = [f"satz nummer {i // 2} :: sentence number {(i + 1) // 2 % (count // 3)}" for i in range(count)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["trans-de-en", "sentences"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_sentence_is_in_two_parts(name: str, seed: int, tmp_path: Path) -> None:
    written(tmp_path, numbered(300))
    corpus = load(name, tmp_path, seed=seed)
    parts = [corpus.train, corpus.validation, corpus.test]
    assert all(parts)
    for side in (0, 1):
        sentences = [pair[side].casefold() for part in parts for pair in part]
        assert len(set(sentences)) == len(sentences)


def test_the_seed_decides_the_split(tmp_path: Path) -> None:
    one, again, other = (load("sentences", seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one.digest == again.digest != other.digest
    assert set(one.test) != set(other.test)
    assert sorted(one.train + one.validation + one.test) == sorted(other.train + other.validation + other.test)
    small = load("sentences", seed=0, train=50)
    assert (small.train, small.test) == (one.train[:50], one.test)


def test_numbers_of_pairs() -> None:
    corpus = load("sentences", train=100, validation=20, test=0)
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (100, 20, 0)
    with pytest.raises(ValueError, match=r"train is 400; sentences has 2\d\d pairs beside validation and test"):
        load("sentences", train=400)
    with pytest.raises(ValueError, match="validation and test are 200 and 200; there are 320 pairs"):
        load("sentences", validation=200, test=200)
    with pytest.raises(ValueError, match="dataset is 'wmt'; allowed are iwslt14, trans-de-en, sentences"):
        load("wmt")


def test_lengths_words_and_case(tmp_path: Path) -> None:
    lines = [
        "ein Hut :: a hat",
        "das rote Haus da :: the house",
        "ein sehr altes Haus :: a very old house",
        "ja :: yes",
    ]
    written(tmp_path, "\n".join([*lines, "Uhr :: Clock\n"]))
    everything = load("trans-de-en", tmp_path, validation=0, test=0, lowercase=False).train
    assert set(everything) == {
        ("ein Hut", "a hat"), ("ein sehr altes Haus", "a very old house"), ("ja", "yes"), ("Uhr", "Clock"),
    }  # fmt: skip
    assert ("uhr", "clock") in load("trans-de-en", tmp_path, validation=0, test=0).train
    assert load("trans-de-en", tmp_path, validation=0, test=0, words=(2, 3)).train == (("ein hut", "a hat"),)
    assert not balanced(("a b c d", "a b"))
    assert balanced(("a b c", "a b"))
    pairs = [("ein hut", "a hat"), ("ein haus", "a house"), ("ein hut da", "a hat there"), ("hut", "hat")]
    assert of_frequent_words(pairs, 2) == [pairs[0], pairs[3]]
    assert unrepeated([("A", "x"), ("a", "y"), ("b", "Y"), ("c", "z")]) == [("A", "x"), ("b", "Y"), ("c", "z")]
    assert words_of("Gib mir's, ja?") == ["Gib", "mir", "'", "s", ",", "ja", "?"]


def test_our_sentences_are_german_and_english() -> None:
    pairs = grammar.pairs()
    assert len(set(pairs)) == grammar.COUNT == len({german for german, _ in pairs})
    assert max(len(words_of(side)) for pair in pairs for side in pair) <= 10
    for german, english in pairs:
        assert german[0].isupper()
        assert english[0].isupper()
        assert (german[-1], english[-1]) in ((".", "."), ("?", "?"))
    # Articles by hand: the ball is masculine, so "den … ball" as an object; subjects stay in the nominative.
    text = " ".join(german for german, _ in pairs)
    assert "den roten Ball" in text
    assert "der roten Ball" not in text
    assert {"der Mann", "Der Mann"} & set(map(str, [text[i : i + 8] for i in range(len(text))]))


# --- IWSLT'14 ----------------------------------------------------------------------------------------------------


def plain(root: Path, part: str, german: list[str], english: list[str]) -> None:
    folder = root / iwslt.FOLDER
    folder.mkdir(exist_ok=True)
    (folder / f"{part}.de").write_text("\n".join(german) + "\n", encoding="utf-8")
    (folder / f"{part}.en").write_text("\n".join(english) + "\n", encoding="utf-8")


def test_plain_files(tmp_path: Path) -> None:
    plain(tmp_path, "train", [f"Satz {i}" for i in range(1, 51)], [f"Sentence {i}" for i in range(1, 51)])
    plain(tmp_path, "test", ["Das al@@ te Haus .", "Ja"], ["The old ho@@ use .", "Yes"])
    corpus = load("iwslt14", tmp_path)
    assert corpus.test == (("das alte haus .", "the old house ."), ("ja", "yes"))
    assert corpus.validation == (("satz 23", "sentence 23"), ("satz 46", "sentence 46"))  # every 23rd
    assert len(corpus.train) == 48
    assert corpus.train[21:23] == (("satz 22", "sentence 22"), ("satz 24", "sentence 24"))
    plain(tmp_path, "valid", ["Nein"], ["No"])
    corpus = load("iwslt14", tmp_path, lowercase=False)
    assert corpus.validation == (("Nein", "No"),)
    assert len(corpus.train) == 50
    assert len(load("iwslt14", tmp_path, train=10, test=1).train) == 10


def test_training_pairs_are_cleaned_before_every_23rd_is_taken(tmp_path: Path) -> None:
    german = ["x " * 176, "ein", *[f"s {i}" for i in range(1, 24)]]
    english = ["x " * 176, "one two", *[f"t {i}" for i in range(1, 24)]]
    plain(tmp_path, "train", german, english)
    plain(tmp_path, "test", ["sehr lang"], ["very " * 9])
    corpus = load("iwslt14", tmp_path)
    assert corpus.validation == (("s 23", "t 23"),)
    assert len(corpus.train) == 22
    assert len(corpus.test) == 1  # whatever its lengths


def test_published_files(tmp_path: Path) -> None:
    folder = tmp_path / iwslt.FOLDER
    folder.mkdir()
    for side, hello in (("de", "Hallo."), ("en", "Hello.")):
        (folder / f"train.tags.de-en.{side}").write_text(
            "<url>http://example.org</url>\n<keywords>talks</keywords>\n<talkid>1</talkid>\n"
            f"<title>{hello} 1</title>\n<description>{hello} 2</description>\n {hello} 3 \n",
            encoding="utf-8",
        )
        for n, talk in enumerate(iwslt.TALKS):
            (folder / f"IWSLT14.{talk}.de-en.{side}.xml").write_text(
                f'<doc>\n<title>no</title>\n<seg id="1"> {hello} {n} </seg>\n<seg id="2">Q&amp;A</seg>\n</doc>\n',
                encoding="utf-8",
            )
    corpus = load("iwslt14", tmp_path, lowercase=False)
    assert corpus.train == (("Hallo. 1", "Hello. 1"), ("Hallo. 2", "Hello. 2"), ("Hallo. 3", "Hello. 3"))
    assert corpus.test[:3] == (("Hallo. 0", "Hello. 0"), ("Q&A", "Q&A"), ("Hallo. 1", "Hello. 1"))
    assert len(corpus.test) == 10


def test_what_is_wrong_with_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"IWSLT'14 DE-EN is not in .*iwslt14-de-en: put there the files"):
        find("iwslt14", tmp_path)
    plain(tmp_path, "train", ["a", "b"], ["a"])
    plain(tmp_path, "test", ["a"], ["a"])
    with pytest.raises(DataError, match=r"train.de has 2 sentences and .*train.en has 1; they must be parallel"):
        load("iwslt14", tmp_path)
    (tmp_path / iwslt.FOLDER / "train.de").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read"):
        load("iwslt14", tmp_path)
    plain(tmp_path, "train", ["a"], ["a"])
    with pytest.raises(ValueError, match="7 pairs are asked for; there are 1"):
        load("iwslt14", tmp_path, test=7)
