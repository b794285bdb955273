"""A program in Python: reads JSON, searches text, and keeps some of it.

Run with PYTHONMALLOC=malloc, every object is a block of malloc's. What is kept is never freed: tracers that tell only what is
outstanding then have something to tell.
"""

import json
import os
import re

WORDS = "a map that is only ever written to grows until the killer comes".split()
ROUNDS = 100
KEPT = 40


def document(number):
    rows = [{"id": i, "name": WORDS[i % len(WORDS)] * 2, "values": list(range(i % 17))} for i in range(400)]
    return json.dumps({"number": number, "rows": rows})


def read(text):
    rows = json.loads(text)["rows"]
    found = re.findall(r'"name": "(\w+)"', text)
    longest = sorted(set(found), key=len)
    return [row for row in rows if row["name"] in longest[-KEPT:]]


def main():
    kept = []
    for number in range(ROUNDS):
        kept.append(read(document(number))[:KEPT])
    assert len(kept) == ROUNDS
    # The interpreter would free everything on its way out.
    os._exit(0)


main()
