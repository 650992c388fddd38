"""A text in the form of the specification's, with what its reader has to tell apart."""

TEXT = """\
# <a name="top" />Things

A thing MUST
NOT be heavy, and it MUST be round.

## Colours

* **`colour`** (string, OPTIONAL) is what one sees.
* **`shade`** (string, REQUIRED) is darker.

```json
# MUST be ignored, heading and word
{"colour": "MUST"}
```

| name  | level  |
|-------|--------|
| `red` | SHOULD |

On other planets it MAY be blue.
"""
