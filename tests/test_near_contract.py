"""The contract of every store, run on a store with a near tier that it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ego4dfs.metrics import Metrics
from ego4dfs.near import NearStore, NearTier
from ego4dfs.store import ObjectStore
from ego4dfs.store.bucket import Bucket
from ego4dfs.testing import StoreContract, StoreUnderTest
from kit.near import BUCKET, PATIENT, PROFILE, Near
from kit.stores import Bucket as FarBucket

pytestmark = pytest.mark.first_pass


class TestNearStore(StoreContract):
    @pytest.fixture
    def under_test(
        self, near: Near, bucket: FarBucket, opened: Callable[..., ObjectStore]
    ) -> Iterator[StoreUnderTest]:
        url = f"s3://{BUCKET}/{near.prefix}"
        objects = Bucket(url, endpoint_url=near.gateway.url, profile=PROFILE)
        far = opened(endpoint_url=near.far.url)
        store = NearStore(far, NearTier(objects, Metrics(), PATIENT), fills=True)
        yield StoreUnderTest(store, bucket.put, bucket.url)
        store.close()
