"""Patient ids as people and programs write them: which mean unknown, and which differ only in form.

Ids that differ only in form are joined: if they are two patients after all, the split is merely coarser, whereas one
patient under two ids would be in training and test.
"""

import re
import unicodedata
from collections.abc import Iterable

_UNKNOWN = {
    "na", "nan", "nat", "null", "nul", "none", "nil", "unknown", "unkn", "unk", "undefined", "undetermined",
    "missing", "blank", "empty", "notavailable", "notapplicable", "notknown", "notgiven", "notspecified",
    "notrecorded", "unspecified", "noid", "noname", "nodata", "nopatient", "nopatientid", "tbd", "anonymous",
    "anonym", "anon", "anonymized", "anonymised", "deidentified", "deid", "removed", "redacted", "masked",
    "withheld", "deleted", "unbekannt", "nichtbekannt", "nichtvorhanden", "keineangabe", "keineangaben",
    "fehlt", "leer", "anonymisiert", "inconnu", "inconnue", "nonrenseigne", "nonconnu", "anonyme",
    "desconocido", "desconocida", "sindato", "sindatos", "noconsta", "anonimo", "sconosciuto", "sconosciuta",
    "ignoto", "nondisponibile", "desconhecido", "onbekend", "nieznany",
}  # fmt: skip
"""Ids that name no patient, in small letters without accents, spaces and signs. Two letters without signs may be
somebody's initials: of these only `na` is here."""

_UNKNOWN_WITH_SIGNS = re.compile(
    r"k\. ?A\.?|n\. ?[dbkv]\.?|[NnSs] ?/ ?[DdBbKkVv]|#(VALUE|REF|NAME|NUM|DIV/0|NULL)[!?]?|-\d+([.,]0+)?|[Xx]{3,}"
)
"""Others: k.A., n/d (but N.D. may be initials), the errors of a spreadsheet, the negative numbers of statistics
programs, and XXXX."""

_WHOLE_NUMBER = re.compile(r"(\d+)[.,]0+")
_SEPARATORS = re.compile(r"[\s_\-./\\:#]+")


def is_unknown(identity: str) -> bool:
    """Return whether an id names no patient: empty, signs only, `NA`, `unknown` and the like, in any case."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", _visible(identity).casefold()) if c.isalnum())
    return not letters or letters in _UNKNOWN or _UNKNOWN_WITH_SIGNS.fullmatch(_visible(identity)) is not None


def canonical(identity: str) -> str:
    """Return the form that an id shares with all ids that differ from it only in form.

    These are upper and lower case, leading zeros of a number, `7.0` for `7`, white space, hyphens and the like,
    invisible characters, and Unicode's several forms of one character. Signs between two digits count: `1-2` is not
    `12`.
    """
    text = unicodedata.normalize("NFKC", _visible(identity).casefold())
    number = _WHOLE_NUMBER.fullmatch(text)
    text = _SEPARATORS.sub(" ", number[1] if number else text).strip()
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def spellings(identities: Iterable[str]) -> dict[str, list[str]]:
    """Group ids by canonical form: each form's different spellings, sorted."""
    found: dict[str, set[str]] = {}
    for identity in identities:
        found.setdefault(canonical(identity), set()).add(identity)
    return {form: sorted(names) for form, names in found.items()}


def _visible(text: str) -> str:
    """Characters in one Unicode form, one kind of digit and of hyphen, without invisible ones."""
    kept = []
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        if character.isspace():
            kept.append(" ")
        elif category == "Nd":
            kept.append(str(unicodedata.decimal(character)))
        elif category == "Pd" or character == "\N{MINUS SIGN}":
            kept.append("-")
        elif category not in ("Cc", "Cf") and not "\ufe00" <= character <= "\ufe0f":  # those are variation selectors
            kept.append(character)
    return "".join(kept).strip(" '\"`")
