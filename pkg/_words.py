"""Words: the half of `pkg.relatives` that turns a text into a matrix to be factored."""

import bz2
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pkg import _check

TEXT = Path(__file__).parent / "texts" / "king_james.txt.bz2"
SHA256 = "460e83996f43fb4c3f6767b4be9cb77dc3ac03858a40e9565d52dbfb82248f93"
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


@dataclass(frozen=True, eq=False, kw_only=True)
class Text:
    """A text in its chapters, with a sentence that says where it came from.

    Attributes
    ----------
    chapters : tuple of str
        No window of neighbouring words reaches from one chapter into the next.
    provenance : str
        Title, source, licence and length in one line, for captions.
    """

    chapters: tuple[str, ...]
    provenance: str


def load_text() -> Text:
    """Read the text that ships with the package, the King James Bible.

    It is long enough for its words to show topics, and its translation of 1611 is in
    the public domain everywhere but in the United Kingdom, where the Crown holds
    letters patent on printing it; texts/ATTRIBUTION.md tells more. Introduced in
    chapter 16.

    Returns
    -------
    Text
        1,189 chapters of some 790,000 words together.

    Raises
    ------
    RuntimeError
        If the file is missing or not the one that was shipped: install the package
        again.
    """
    try:
        data = bz2.decompress(TEXT.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: cut short
        raise RuntimeError(f"{TEXT}: {error}; install the package again") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise RuntimeError(
            f"{TEXT} does not match its checksum; install the package again"
        )
    chapters = tuple(data.decode("ascii").strip().split("\n\n"))
    found = sum(len(WORD.findall(chapter.lower())) for chapter in chapters)
    provenance = (
        f"King James Bible, {len(chapters)} chapters, {found} words; bundled with the "
        "package, public domain outside the United Kingdom "
        "(pkg/texts/ATTRIBUTION.md)"
    )
    return Text(chapters=chapters, provenance=provenance)


def vocabulary(chapters: Sequence[str], size: int) -> tuple[str, ...]:
    """List the `size` most frequent words, the most frequent first.

    A word is a run of letters, in lower case, with the apostrophes inside it. Words
    equally frequent come in the order of their first appearance. Introduced in
    chapter 16.

    Parameters
    ----------
    chapters : sequence of str
        As in `load_text`.
    size : int
        How many words.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If the text has fewer different words.
    """
    size = _check.count("size", size)
    counts: Counter[str] = Counter()
    for chapter in _chapters(chapters):
        counts.update(WORD.findall(chapter.lower()))
    if size > len(counts):
        raise ValueError(
            f"`size` is {size}, but the text has {len(counts)} different words; ask "
            "for fewer"
        )
    return tuple(word for word, _ in counts.most_common(size))


def cooccurrence(
    chapters: Sequence[str], words: Sequence[str], *, window: int
) -> Float[np.ndarray, "V V"]:
    """Measure how often each pair of words stands close together.

    Words k places apart count window + 1 - k, for k from 1 to `window`: on average
    that is what word2vec samples, which draws the size of each window. Words outside
    of `words` are not counted but keep their place. Introduced in chapter 16.

    Parameters
    ----------
    chapters : sequence of str
        As in `load_text`.
    words : sequence of str
        V different words.
    window : int
        Largest distance of two words that are neighbours.

    Returns
    -------
    (V, V)
        Symmetric probabilities P_ij, which sum to 1.

    Raises
    ------
    ValueError
        If a word is given twice, or has no neighbour in the text: leave it out.
    """
    window = _check.count("window", window)
    index = {word: i for i, word in enumerate(words)}
    V = len(words)
    if len(index) < V:
        twice = next(word for word, n in Counter(words).items() if n > 1)
        raise ValueError(f"`words` holds {twice!r} more than once; pass each word once")
    places: list[int] = []
    for chapter in _chapters(chapters):
        places += [index.get(word, -1) for word in WORD.findall(chapter.lower())]
        places += [-1] * window  # no pair across the end of a chapter
    at = np.array(places)
    counts = np.zeros(V * V)
    for k in range(1, window + 1):
        left, right = at[:-k], at[k:]
        both = (left >= 0) & (right >= 0)
        pairs = left[both] * V + right[both]
        counts += (window + 1 - k) * np.bincount(pairs, minlength=V * V)
    P = counts.reshape(V, V)
    P = P + P.T
    alone = P.sum(axis=1) == 0
    if alone.any():
        word = words[int(alone.argmax())]
        raise ValueError(
            f"`words` holds {word!r}, which has no neighbour in this text; leave it out"
        )
    return P / P.sum()


def word_target(P: Float[np.ndarray, "V V"]) -> Float[np.ndarray, "V V"]:
    """Find the matrix that embeddings of words factor, M* of Karkada et al.

    M*_ij = (P_ij - P_i P_j) / ((P_ij + P_i P_j) / 2): zero where two words meet as
    often as chance has it, never above 2, and -2 where they never meet. Introduced in
    chapter 16.

    Parameters
    ----------
    P : (V, V)
        Symmetric probabilities of pairs, as `cooccurrence` returns them.

    Returns
    -------
    (V, V)
        Symmetric, with entries from -2 to 2.

    Raises
    ------
    ValueError
        If P is not symmetric, has a negative entry, or a word has no pair at all.

    References
    ----------
    Karkada, Simon, Bahri and DeWeese, "Closed-Form Training Dynamics Reveal Learned
    Features and Linear Structure in Word2Vec-like Models", arXiv:2502.09863.
    """
    P = _check.nonnegative("P", _check.symmetric("P", P))
    alone = P.sum(axis=1) == 0
    if alone.any():
        raise ValueError(
            f"`P` has only zeros in row {int(alone.argmax())}; leave that word out"
        )
    P = P / P.sum()
    single = P.sum(axis=1)
    chance = np.outer(single, single)
    return (P - chance) / ((P + chance) / 2)


def _chapters(chapters: Sequence[str]) -> Sequence[str]:
    if isinstance(chapters, str):
        raise ValueError(
            "`chapters` is one string; pass a sequence of strings, such as [text]"
        )
    return chapters
