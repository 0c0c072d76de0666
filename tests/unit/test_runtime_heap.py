"""What networks free goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import torch
from atelier.runtime.heap import settle_heap

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "settled":
    settle_heap()
torch.ones(30 * 2**20, dtype=torch.uint8)
before, maps, between = held(), [], []
for _ in range(8):
    maps.append(torch.ones(20 * 2**20, dtype=torch.uint8))
    between.append(torch.ones(100_000, dtype=torch.uint8))
del maps
print(held() - before)
"""


def kept(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_settled_heap_gives_back_what_feature_maps_took() -> None:
    assert kept("as it is") > 100 * 2**20
    assert kept("settled") < 20 * 2**20
