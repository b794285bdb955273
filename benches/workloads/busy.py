"""Modules of many kinds: JSON, regular expressions, XML, a database."""

import json
import re
import sqlite3
import xml.dom.minidom

for number in range(60):
    json.loads(json.dumps({str(key): [key] * 10 for key in range(200)}))
    re.compile(f"a+b*(c|d){number}").match("aab")
    xml.dom.minidom.parseString("<a><b/></a>")
table = sqlite3.connect(":memory:")
table.execute("create table numbers(number)")
for number in range(500):
    table.execute("insert into numbers values(?)", (number,))
assert table.execute("select sum(number) from numbers").fetchone() == (124750,)
