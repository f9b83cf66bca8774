"""A cache directory of the version before: its blocks, pins, facts and manifests are still used.

OLD_CACHE is a tar.xz of the directory, made by the code of commit 9d784fd: two objects of which the
first is pinned, facts of both, a refusal, a manifest, and a file that a killed process left.
"""

from __future__ import annotations

import base64
import io
import tarfile

import pytest

from ego4dfs.cache import BlockCache, Pin, prepare_directory, source_directory
from ego4dfs.catalog.manifest_cache import ManifestCache
from ego4dfs.errors import AccessDenied
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectFacts
from kit.cache import UNIT, bytes_of, got, key_of, put
from kit.fakes import CountingStore

FIRST, SECOND = "11" * 16, "22" * 16
SOURCE = "https://store.example"


@pytest.fixture
def inner(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(OLD_CACHE)), mode="r:xz") as tar:
        tar.extractall(tmp_path / "cache")  # noqa: S202 - our own
    return prepare_directory(tmp_path / "cache")


def test_blocks_of_the_version_before_are_hits_and_its_pins_are_kept(inner):
    assert (inner / "blocks" / "parts" / "aa.1.2.part").exists()
    cache = BlockCache(inner, Metrics())
    for number, object_id in enumerate((FIRST, FIRST, SECOND)):
        content = f"block {number} of {object_id} ".encode() * 40
        view = memoryview(bytearray(len(content)))
        assert cache.read_into(f"{object_id}-{number}", 0, view)
        assert view == content
    assert (cache.admin.max_bytes, cache.admin.eviction) == (1 << 30, "none")
    assert cache.admin.pins() == [Pin("s3://b/11.mp4", 2, 8192)]
    report = cache.admin.verify()
    assert (report.sound, report.damaged, report.lost) == (3, 0, 0)
    put(cache, 1)
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    assert (inner / "blocks" / "incoming").is_dir()
    assert not (inner / "blocks" / "parts").exists()
    assert cache.admin.unpin(["s3://b/11.mp4"]) == 2
    cache.close()


def test_facts_and_manifests_of_the_version_before_cost_no_request(inner):
    store = CountingStore()
    directory = source_directory(inner, SOURCE)
    index = FactsIndex(directory, store)
    assert index.get("s3://b/11.mp4") == ObjectFacts(2 << 20, "e1", "v1", 5)
    assert index.get("s3://b/22.mp4") == ObjectFacts(1000, "e2", "", 6)
    with pytest.raises(AccessDenied, match="refused by the store"):
        index.get("s3://b/refused", refusal_valid_s=1e12)
    index.close()
    assert ManifestCache(directory, store).is_cached("v2", "clips")
    assert (store.heads, store.gets, store.reads) == ([], [], [])


OLD_CACHE = """
/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Rf/CPZdABcLvBx9AZXAKRTgxtpWszfLT5ett2SjKrEs
kXygt7mQIwiizyBPHRZJUmSlR/3pJGHgACdj0z0lkpSfCzIteoUJcsM9s7B4A+pAY7WRrdClMhIM
0wLRxIwkU+Cj9rgPht+DT5PjPVPjYvmGgGvUf/asMeq/Trgwbr0XLuZo1B/UAgN1LMuk7RgraAmd
EwKl4O5XUMQ4yhZeESHJgSYcEyGGkuKlmp1M595h60gI4mkZuRTcV+7pGm3DC9RBZAOdczFBsOon
Ig7xyHoI/Hl8R8OoMStsIA08DKGkz4RFK5NjftZ0ZWuR8cZr8Iy+n+VpiclBFfuu0nld6IwP2xh3
GBTr7smeCku1MjnUCCnVDb3F2oEnP6yEBQ34drx5wuLiGai98nImFWM+iRPF3oMMQLugNKn2qWIS
nsrQZoxDjt6LwBjLZcXH/AkcLr6L0PnRLldZyY24rIruvOSb9vWFHaZeFf5u9jVFAeop3IW1z9xA
2sBrfVAdQoOUa3J5wLmxzNlPRMEj7BUw+Dniqb8jh5ujbHbL+tuogYy1fjD31ATjLVMBnkbndEjo
QFwmeOAI93IoCN+k+5TtOH9Xlk7nd9sldxSSOKtMlRZpoDdmYfXAXlhPTEmmhdG4mo1vIcvADMpN
xJK9Sxhp5wXUF5TA3BXW0heHjUeGEZ8eDkx9T0fewnG056Tkk5qwJD9dYEp1BsO6EJ6fKUGCA+XM
IttHJHF+fvF4Eallw8cL5Are5n7Ab9nWaQz4cRn4RKS5diPCOVlT+TJQXh+GyXCixbT8cwDionjP
1/SmA9kAgmb4+wUaPPUOl7zf3Fcv0G3twSfhIzWjej3EXssUb/i7IsTlEi6e/fhQwbzvkmUVjw5r
uIWdASM1kecDlibdNBSAPdZbRPDXUmT7KwhtPQEFQd57KXzFk3xlGAaw7q11JTMDZPotzKFw+bPn
z5B0K5ZPip/h41rF1NRR4k3G4N/4UFHvKKfRSu9G3l0ixD2x9a/8RnRjmFqZQlFkr3+0J6iatXVY
/oxm/n0feFlkketL2dpkqUoC5T/20vOcFjrYZh5ektl0343JiVnwFd/V3WHxQ9famJXIQSbOuWFS
Vlky8nsj/eSgeCLRJE2VMhS4SnMP7vFqt/ds2kdLWxAyWcCK4ntLUsJmKgy/YLRQPK/3yLADL5SG
N8/tgvqyxaP5TRe5OoiqZ6G88784395y05nVwQ9NqUULhejgVtZ1opWibD7YbOoApoQMETt/7Vtl
T0R8POPgtWl404tbhl8PtEiAwfqw4hBy1mod7N6czSajqCCmVpkjOB0tzC/JAC1kchq/NC+O+vnK
Z9W9YBlCFVlUglKfKGmHcuZQk58A9fOM9QtNgRndTK3m4OyCnrGht8y1dOLPLBqt5cMuBlknAB8A
aGVMsE0BfEusD5gIZDdUiFIH2cJpukJrbRCaRbGhCLRL/55ViDYWz3LPJ/Ob4/dRtdc46A0Bnv/E
DIb6GKwBFZ7262t0wGc9cVaQ9yeSalI+Ae8Te8M33crBg+sfjiOvgUVxvDvqEJ5aZeYw88XI/Z9/
S8ZQAJwNCyX52cq8bGklj5ZRyazk3RxJDe4714iBDc9JDsEXeKQePMvC79e7bbI1kuRxhQmyr0+5
0sQjGM8assiwHVdpiMtiNcgwUtQ8WqEdS1qfz3+k6cwOxADiw5Mzk/fNjx3I0iu+Ce3ejES0oGIp
XOoC8NmqKyf0kYElG8ROOUo7rRhC+aHoUc8PdN/qKIHGWFkvNCvxODZbXjMbPwyqZiI6hMZMunG/
6zaQh1AXTF1S8wJeqfhcBnKNZKKM7wjmOT0KD1pzukWTEOoGblmJDap7U99IeQUzYiLZ7X1SdpLw
IgIx8kLU6IlncPi3Md5Z3uaN9b/Iad52vdTyvabWxWtShECiGmrx2JtJM4S+55vEymQWyyDiCByr
v4w3IhFqc1bT90MdcOS2M61sDowb2fzaC727apXL1rIQUIR4X7eaIg2GlXILUn/9ORBf1/7YNmi1
YBXSgiFjZcWCCSM9+ABh9Xi3y44HKOjR6B7JH7Vn1KDvvC5bBF5OVeGcu/GEb/dFucFY60qD492x
EfBHUpbUBLH2sShwHbL9CGeSel3tjaKr8EexxhKzHXv10LfoJT5WZ3fjBmefY4Tr1TJ3kWXsaUhF
Q+qU9Gtq1jIz4cNKwKRumLFIfpNgBr+zApz+lOlH744meacMxjPHb1wuzX9oWvo/U5GbWlXHHBO3
XDo2BnMs5abCI0h/jcG2KKw0pFYhdadLT+6LAH0fCJntwyYFlTDsfFEhG+Q/pdMruJy6uWEuW7EF
OhqasfEN4b5AcwPx7PzfoWVdce1kRcIJ26qNLJxVHEHVcWzArIw+QHt3JbcFbtlufa9mk7QGCTUx
xibBtte4H6yvLlCncsbtzpDiiXqe+FuzVZcvKbGJ0nF6BqwehANwoP2DSoqbNFkmpE8nlCl31MVi
HHilSf+hDHIGXm615i7v9CSVPF7q10IAGIpD3l7A5xQtGe8/ueCpONw5+BqK9xp7Ayoq9w2M4G4n
aMXgeio7TykxTYMXBaHmw8HCsDtDXe17bUYXUR5G5XxtrhJ3O+obW3lmMliLN8g+jmL7tb3sKpMM
zgSL+x3KGU7ZTBw3iye79QbbG/kOMKVEdKu6ggjwRRxY1FcVva5W4AK1lHiddMqh4GyAY+zZ2i2I
3QUPNpgHqe8rOnYmlGstAnFRG7Z8iQuC6K4XHc1Qb1QiC+th+Kacurgo6ksPsD6WTOB5nX0KHJY8
pt1WuNJcQwTUoJjvnUlSopKH7BBoXTt4nsJC/J+uIy3jCrJv+BO3NdjtiWUFWMiubBYzo0mwu9n/
ETAmMFF106VZkgzK1ATpLXJN1GNfg0nP/MUPSik/iJ86ZUqE3ovlHeOjM1e0xOakMO7mBEh5cNeh
5kWF9WHfoXch7QoebZoSvVbDNvnFXfMgKGOdZrdQU6fgRHetZy4U2og5HAafNyVM5E2Moj9fgtTa
Vvoq6T+AQdzqz21crH8guVsUv8w4df7Hfweu9benH9X2bOvJpCS19m5KetIAAAAAuBq7nFrdMcwA
AZISgLAEAFgqsMWxxGf7AgAAAAAEWVo=
"""
