"""Grows in every way an interpreter does: small objects, large ones, a library that is loaded, a thread, a map of its own."""

import mmap
import sys
import threading

print("ready", flush=True)
assert sys.stdin.readline() == "go\n"

small = [{"number": number, "text": str(number) * 3} for number in range(60_000)]
large = [bytearray(size) for size in (1 << 20, 3 << 20, 700_000)]
large[1] = bytearray(5 << 20)
large[0].extend(bytes(4 << 20))
del small[::3]
own = mmap.mmap(-1, 12 << 20)
gone = mmap.mmap(-1, 9 << 20)
gone.close()

import ctypes.util  # maps the library's files, and memory for its data
import decimal
import sqlite3

lock = threading.Barrier(2)
worker = threading.Thread(target=lambda: (lock.wait(), lock.wait()), daemon=True)
worker.start()
lock.wait()

print("grown", flush=True)
assert sys.stdin.readline() == "exit\n"
lock.wait()
worker.join()
